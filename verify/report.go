package verify

// Options select the checks.
type Options struct {
	Quick   bool   // the structure, the config and what the directory promises; no payload
	Run     bool   // compute the self-test on every engine of this machine that Device names
	Device  string // "cpu", "cuda" or "cuda:N"; empty or "auto" is all, CUDA where it can
	Source  string // a checkpoint: derive every trit and scale from it again
	Compare string // another .trit file: are its weights, config and tokenizer the same?
	Tensors bool   // measure every tensor: Report.Tensors

	// AllowedSigners, a file as ssh-keygen(1) describes it, demands a signature by
	// one of them. Signature is its file; empty is the path of the .trit file with
	// ".sig" appended.
	AllowedSigners string
	Signature      string
	Unsigned       bool // leave signatures alone

	Workers int // 0 is GOMAXPROCS
}

// Report is the outcome of all checks. Its JSON form is that of
// spec/verify-report.schema.json.
type Report struct {
	Path     string    `json:"path"`
	Size     int64     `json:"size"`
	SHA256   string    `json:"header_sha256,omitempty"` // names the whole content
	Card     *Card     `json:"model,omitempty"`         // absent where the config could not be read
	Checks   []Check   `json:"checks"`
	Findings []Finding `json:"findings"`

	Tensors []TensorStats `json:"tensors,omitempty"` // with Options.Tensors
}

// OK reports whether nothing was found.
func (r *Report) OK() bool { return len(r.Findings) == 0 }

// Card is what the file says of its model.
type Card struct {
	Layers        int     `json:"layers"`
	Hidden        int     `json:"hidden"`
	Heads         int     `json:"heads"`
	KVHeads       int     `json:"kv_heads"`
	Intermediate  int     `json:"intermediate"`
	Vocab         int     `json:"vocab"`
	Context       int     `json:"context"`
	Activation    string  `json:"activation"`
	Quantizer     string  `json:"activation_quant"`
	Parameters    int64   `json:"parameters"`
	Ternary       int64   `json:"ternary_parameters"`
	BitsPerWeight float64 `json:"bits_per_ternary_weight"` // codes and scales
	Family        string  `json:"family,omitempty"`        // from the provenance
	Tool          string  `json:"tool,omitempty"`
	Sources       int     `json:"source_tensors,omitempty"`
}

// Check is one check that was done, or why it was not.
type Check struct {
	Name    string  `json:"name"`
	Status  Status  `json:"status"`
	Detail  string  `json:"detail"` // what was looked at, or why not
	Seconds float64 `json:"seconds"`
}

// Status is the outcome of a check.
type Status string

// The outcomes.
const (
	Passed  Status = "passed"
	Failed  Status = "failed"
	Skipped Status = "skipped"
)

// Finding is something wrong with the file.
type Finding struct {
	Check    string `json:"check"`
	Class    string `json:"class,omitempty"` // a format.Class, where it has one
	Tensor   string `json:"tensor,omitempty"`
	Section  string `json:"section,omitempty"`
	Offset   int64  `json:"offset"` // in the file; 0 where no byte is to blame
	Expected string `json:"expected,omitempty"`
	Actual   string `json:"actual,omitempty"`
	Cause    string `json:"cause,omitempty"` // what probably happened, and what to do
	Message  string `json:"message"`         // all of it in a sentence
}

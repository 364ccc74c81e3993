package conformance

// Rule is a rule of spec/trit-v1.md and what shows that a reader keeps it.
type Rule struct {
	ID      string
	Section string
	Quote   string   // words of the rule, as they stand there
	Tests   []string // of this module, for what no file can show
}

// Rules are the rules that vectors are about. Every sentence of spec/trit-v1.md
// that says MUST belongs to one of them.
var Rules = []Rule{
	{ID: "overflow", Section: "1", Quote: "A reader MUST check them for overflow before it uses them"},
	{ID: "allocation", Section: "1", Quote: "MUST NOT allocate memory by a field that it has not compared with the size of the file", Tests: []string{"TestHostileVectorsAreCheap"}},

	{ID: "magic", Section: "2", Quote: "`89 54 52 49 54 0D 0A 1A`"},
	{ID: "version", Section: "2", Quote: "the major version (another one is *unsupported*, not malformed)"},
	{ID: "file-length", Section: "2", Quote: "the size of the file in bytes"},
	{ID: "header-length", Section: "2", Quote: "384 + 256 T + 128 S rounded up to a multiple of 256"},
	{ID: "tensor-count", Section: "2", Quote: "1 to 65,536"},
	{ID: "section-count", Section: "2", Quote: "section count S"},
	{ID: "reserved-prelude", Section: "2", Quote: "the reserved bytes and the form of the feature lists"},
	{ID: "header-hash", Section: "2", Quote: "over all bytes of the header, with these 32 taken as zero"},
	{ID: "feature-name", Section: "2", Quote: "A feature's name is 1 to 16 bytes of `[a-z0-9-]`, padded with zeros to 16."},
	{ID: "feature-order", Section: "2", Quote: "their names strictly ascending by byte value"},
	{ID: "feature-unused", Section: "2", Quote: "unused slots are zero"},
	{ID: "feature-required", Section: "2", Quote: "the required features (an unknown one is *unsupported*)"},
	{ID: "feature-directory", Section: "2", Quote: "It MUST NOT interpret the directory of a file with a required feature that it does not know."},
	{ID: "order", Section: "2", Quote: "A reader MUST check in this order"},

	{ID: "name", Section: "3.1", Quote: "1 to 128 bytes of `[a-z0-9_.]`, then zeros"},
	{ID: "name-unique", Section: "3.1", Quote: "Names MUST be unique in a file."},
	{ID: "encoding", Section: "3.1", Quote: "1 f32, 2 f16, 3 bf16, 4 int8, 5 trit2, 6 trit3"},
	{ID: "rule", Section: "3.1", Quote: "0 none, 1 absmean, 2 threshold, 3 verbatim"},
	{ID: "granularity", Section: "3.1", Quote: "0 none, 1 tensor, 2 row, 3 group"},
	{ID: "rank", Section: "3.1", Quote: "| 134 | u16 | rank | 1 or 2 |"},
	{ID: "dim", Section: "3.1", Quote: "1 to 2^31 - 1; 0 when the rank is 1"},
	{ID: "group", Section: "3.1", Quote: "a multiple of 128 from 128 to 2^31 - 128 when the granularity is group, otherwise 0"},
	{ID: "reserved-record", Section: "3.1", Quote: "reserved bytes, the order of sections"},
	{ID: "combination", Section: "3.1", Quote: "What goes together:"},
	{ID: "no-scales", Section: "3.1", Quote: "zero when the granularity is none"},
	{ID: "data-length", Section: "3.1", Quote: "The data length MUST be at most 2^62 bytes."},
	{ID: "section-name", Section: "3.2", Quote: "1 to 32 bytes of `[a-z0-9-]`, then zeros"},
	{ID: "section-order", Section: "3.2", Quote: "Section records are strictly ascending by name"},
	{ID: "section-length", Section: "3.2", Quote: "1 to 268,435,456"},
	{ID: "reserved-section", Section: "3.2", Quote: "reserved bytes, the order of sections"},
	{ID: "config-present", Section: "3.2", Quote: "`config` MUST be present"},
	{ID: "directory-padding", Section: "3", Quote: "then zeros up to the header length"},

	{ID: "offset", Section: "4", Quote: "a reader MUST compare each with the one that this rule gives"},
	{ID: "length", Section: "5", Quote: "The data length is the number of elements times 4, 2, 2 or 1."},
	{ID: "last-extent", Section: "4", Quote: "The last extent ends exactly at the file length."},
	{ID: "extent-padding", Section: "4", Quote: "The bytes between the end of an extent and the next one are zero."},

	{ID: "finite", Section: "5.1", Quote: "f32, f16 and bf16 values MUST be finite."},
	{ID: "int8", Section: "5.1", Quote: "int8 values are two's complement and MUST be in [-127, 127]"},
	{ID: "trit2-code", Section: "5.2", Quote: "the values of section 5.1 to 5.3"},
	{ID: "trit2-padding", Section: "5.2", Quote: "their codes MUST be 00"},
	{ID: "trit3-padding", Section: "5.3", Quote: "The digit of a column without a weight MUST be 0"},
	{ID: "trit3-digit", Section: "5.3", Quote: "a byte k of whose five columns exist MUST be at most 3^k - 1"},
	{ID: "scale-sign", Section: "5.4", Quote: "under threshold and verbatim it may have any sign or be 0"},
	{ID: "scale-finite", Section: "5.4", Quote: "Every scale MUST be finite"},
	{ID: "scale-absmean", Section: "5.4", Quote: "under the rule absmean it MUST be above 0"},
	{ID: "scale-int8", Section: "5.4", Quote: "for int8 it MUST be at least 0"},

	{ID: "json-form", Section: "6", Quote: "UTF-8 without a byte order mark; no white space"},
	{ID: "json-keys", Section: "6", Quote: "the keys of an object sorted by their UTF-16 code units"},
	{ID: "json-string", Section: "6", Quote: "in strings only `\"`, `\\` and U+0000 to U+001F are escaped"},
	{ID: "json-number", Section: "6", Quote: "numbers as ECMAScript prints a double"},
	{ID: "json-depth", Section: "6", Quote: "Objects and arrays nest at most 4 deep"},
	{ID: "json-twice", Section: "6", Quote: "No key occurs twice in an object."},
	{ID: "json-integer", Section: "6", Quote: "An integer has an absolute value of at most 2^53 - 1."},
	{ID: "json-whole", Section: "6", Quote: "The bytes of a section MUST equal the canonical encoding of the value that they hold"},
	{ID: "config-keys", Section: "6", Quote: "an unknown key and a missing one are errors"},
	{ID: "chat-template", Section: "6", Quote: "the Jinja template of a conversation, in UTF-8"},

	{ID: "config-value", Section: "7", Quote: "a reader MUST refuse a value that it does not know"},
	{ID: "config-lists", Section: "7", Quote: "Lists are sorted by byte value and without repeats."},
	{ID: "config-sizes", Section: "7", Quote: "num_heads is a multiple of num_kv_heads"},
	{ID: "config-eps", Section: "7", Quote: "number, rounded to a positive finite float32 where it is used"},
	{ID: "config-proj-norm-eps", Section: "7", Quote: "present exactly when norms has proj"},
	{ID: "config-rope", Section: "7", Quote: "object: `pairing` is `half`; `theta` above 1, at most 1e12"},
	{ID: "config-rope-keys", Section: "7", Quote: "Keys that the type does not use MUST be absent"},
	{ID: "generation", Section: "8", Quote: "required: list of ids that end generation, ascending, may be empty; each below vocab_size"},
	{ID: "provenance", Section: "9", Quote: "An element of tensors describes one source tensor"},
	{ID: "self-test", Section: "10", Quote: "at least one, finite, descending, ties by lower id"},
	{ID: "manifest-present", Section: "11", Quote: "all of these and no others"},
	{ID: "manifest-shape", Section: "11", Quote: "The config implies the tensors of a file"},
	{ID: "manifest-storage", Section: "11", Quote: "Norm weights are f32, f16 or bf16."},
	{ID: "tokenizer", Section: "14", Quote: "the content of the tokenizer section"},

	{ID: "codebook", Section: "18", Quote: "with them the section ends"},
	{ID: "codebook-keys", Section: "18", Quote: "A key MUST be present in the kinds that it is of and absent in the others."},
	{ID: "codebook-ids", Section: "18", Quote: "All ids MUST be below vocab_size."},
	{ID: "codebook-overlap", Section: "18", Quote: "Those of image and audio MUST NOT overlap, and MUST be at or above 8"},

	{ID: "opening", Section: "14", Quote: "A reader MUST apply its rules to every file.", Tests: []string{"TestGo"}},
	{ID: "unverified", Section: "14", Quote: "an illegal code or a wrong scale then gives a wrong result, and MUST NOT give anything worse", Tests: []string{"TestUnverifiedFilesAreHarmless"}},
	{ID: "hash-extent", Section: "14", Quote: "the SHA-256 of an extent or section"},
	{ID: "hash-section", Section: "14", Quote: "A reader MUST verify the SHA-256 of a section before it uses the section"},
	{ID: "writer", Section: "15", Quote: "A writer MUST NOT write what a reader must refuse.", Tests: []string{"TestWriterWritesTheVectors"}},
	{ID: "class", Section: "1", Quote: "a reader MUST refuse a file that breaks one, with the class of section 14", Tests: []string{"TestGo"}},
}

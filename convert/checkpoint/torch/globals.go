package torch

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/tritter-ai/tritter/convert/checkpoint/tensor"
)

// A global is what a name in a pickle stands for here: its kind is what the
// pre-scan knows of it, value what gopickle gets.
type global struct {
	kind  kind
	value any
}

// A dtype is an element type of torch; id is empty for a type that a
// [tensor.Tensor] cannot have.
type dtype struct {
	name string
	id   tensor.DType
}

// A storageClass is the class in a storage's persistent id. Of an untyped
// storage dtype is nil, and the count of its elements is one of bytes.
type storageClass struct {
	name  string
	dtype *dtype
}

// globals holds every name that is known, "module.name".
var globals = knownGlobals()

func knownGlobals() map[string]global {
	m := map[string]global{
		// gopickle resolves this one by itself.
		"collections.OrderedDict": {kind: kOrderedDictClass},

		"torch._utils._rebuild_tensor":               {kFunc, rebuild(4, 4, rebuildTensor)},
		"torch._utils._rebuild_tensor_v2":            {kFunc, rebuild(6, 7, rebuildTensor)},
		"torch._utils._rebuild_tensor_v3":            {kFunc, rebuild(7, 8, rebuildTensor)},
		"torch._utils._rebuild_parameter":            {kFunc, rebuild(3, 3, rebuildParameter)},
		"torch._utils._rebuild_parameter_with_state": {kFunc, rebuild(4, 4, rebuildParameter)},
		"torch._tensor._rebuild_from_type_v2":        {kFunc, rebuild(4, 4, rebuildFromType)},
		"torch.Size":                                 {kFunc, rebuild(1, 1, rebuildSize)},
		"torch.storage.UntypedStorage":               {kConst, &storageClass{name: "UntypedStorage"}},
		"torch.UntypedStorage":                       {kConst, &storageClass{name: "UntypedStorage"}},
	}
	types := map[string]*dtype{}
	for _, t := range []struct {
		names   string
		storage string
		id      tensor.DType
	}{
		{"float64 double", "DoubleStorage", tensor.F64},
		{"float32 float", "FloatStorage", tensor.F32},
		{"float16 half", "HalfStorage", tensor.F16},
		{"bfloat16", "BFloat16Storage", tensor.BF16},
		{"int64 long", "LongStorage", tensor.I64},
		{"int32 int", "IntStorage", tensor.I32},
		{"int16 short", "ShortStorage", tensor.I16},
		{"int8", "CharStorage", tensor.I8},
		{"uint8", "ByteStorage", tensor.U8},
		{"bool", "BoolStorage", tensor.Bool},
		{"uint16", "", tensor.U16},
		{"uint32", "", tensor.U32},
		{"uint64", "", tensor.U64},
		{"float8_e4m3fn", "", tensor.F8E4M3},
		{"float8_e5m2", "", tensor.F8E5M2},
		{"complex64 cfloat", "ComplexFloatStorage", ""},
		{"complex128 cdouble", "ComplexDoubleStorage", ""},
		{"complex32 chalf", "", ""},
		{"float8_e4m3fnuz", "", ""},
		{"float8_e5m2fnuz", "", ""},
		{"float8_e8m0fnu", "", ""},
		{"float4_e2m1fn_x2", "", ""},
		{"qint8", "QInt8Storage", ""},
		{"quint8", "QUInt8Storage", ""},
		{"qint32", "QInt32Storage", ""},
	} {
		for name := range strings.FieldsSeq(t.names) {
			types[name] = &dtype{name: name, id: t.id}
			m["torch."+name] = global{kConst, types[name]}
		}
		if t.storage != "" {
			name, _, _ := strings.Cut(t.names, " ")
			m["torch."+t.storage] = global{kConst, &storageClass{t.storage, types[name]}}
		}
	}
	for module, names := range map[string]string{
		"__builtin__":            "bool bytearray bytes complex dict float frozenset int list long set slice str tuple unicode xrange",
		"builtins":               "bool bytearray bytes complex dict float frozenset int list range set slice str tuple",
		"_codecs":                "encode",
		"argparse":               "Namespace",
		"collections":            "Counter defaultdict deque",
		"datetime":               "date datetime time timedelta timezone",
		"decimal":                "Decimal",
		"fractions":              "Fraction",
		"numpy":                  "dtype ndarray",
		"numpy.core.multiarray":  "_reconstruct scalar",
		"numpy._core.multiarray": "_reconstruct scalar",
		"pathlib":                "Path PosixPath PurePosixPath PureWindowsPath WindowsPath",
		"pathlib._local":         "Path PosixPath PurePosixPath PureWindowsPath WindowsPath",
		"torch":                  "Tensor device",
		"torch._tensor":          "Tensor",
		"torch.nn.parameter":     "Buffer Parameter",
		"torch.torch_version":    "TorchVersion",
		"types":                  "SimpleNamespace",
		"typing":                 "Any",
		"uuid":                   "UUID",
	} {
		for name := range strings.FieldsSeq(names) {
			m[module+"."+name] = global{kClass, &class{module, name}}
		}
	}
	return m
}

// lookup returns what module.name stands for, or says why it is refused:
// known is false and hostile is true if the name belongs to Python itself.
func lookup(module, name string) (g global, known, hostile bool) {
	if g, known = globals[module+"."+name]; known {
		return g, true, false
	}
	top, _, _ := strings.Cut(module, ".")
	if stdlib[top] {
		return global{}, false, true
	}
	if top == "torch" || top == "numpy" || !dotted(module) || !dotted(name) {
		return global{}, false, false
	}
	// Functions of a module are spelled in lower case by all of Python, classes
	// in CapWords (PEP 8), with the class around them before a dot.
	last := strings.TrimLeft(name[strings.LastIndexByte(name, '.')+1:], "_")
	if first, _ := utf8.DecodeRuneInString(last); !unicode.IsUpper(first) {
		return global{}, false, false
	}
	return global{kClass, &class{module, name}}, true, false
}

// dotted reports whether s is identifiers with dots between them.
func dotted(s string) bool {
	for part := range strings.SplitSeq(s, ".") {
		for i, r := range part {
			if r != '_' && !unicode.IsLetter(r) && (i == 0 || !unicode.IsDigit(r)) {
				return false
			}
		}
		if part == "" {
			return false
		}
	}
	return utf8.ValidString(s)
}

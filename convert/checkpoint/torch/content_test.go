package torch

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/convert/checkpoint/tensor"
)

func names(r *Reader) []string {
	var out []string
	for _, tn := range r.Tensors() {
		out = append(out, tn.Name)
	}
	return out
}

func TestNames(t *testing.T) {
	two := func(a, b string) string { return dict(str(a), floats("0", 2), str(b), floats("1", 2)) }
	for _, c := range []struct {
		name, body string
		want       []string
	}{
		{"flat", two("b", "a"), []string{"a", "b"}},
		{"ordered", ordered(str("b"), floats("0", 2), str("a"), floats("1", 2)), []string{"a", "b"}},
		{"model_state_dict", dict(str("model_state_dict"), two("a", "b")), []string{"a", "b"}},
		{"state_dict", dict(str("state_dict"), two("a", "b"), str("loss"), floats("2", 2)), []string{"a", "b"}},
		{"model in state_dict", dict(str("state_dict"), dict(str("model"), two("a", "b"))), []string{"a", "b"}},
		{"module", dict(str("epoch"), num(1), str("module"), two("a", "b")), []string{"a", "b"}},
		{"empty model beside", dict(str("model"), dict(), str("state_dict"), two("a", "b")), []string{"a", "b"}},
		{"one under two keys", dict(str("model"), two("a", "b")+"q\x09", str("module"), "h\x09"), []string{"a", "b"}},
		{"a tensor named model", two("model", "module.x"), []string{"model", "module.x"}},
		{"other values", dict(str("a"), floats("0", 2), str("_extra_state"), "N", num(1), num(2)), []string{"a"}},
		{"DataParallel", two("module.a", "module.b"), []string{"a", "b"}},
		{"DataParallel twice", two("module.module.a", "module.module.b"), []string{"a", "b"}},
		{"a part named module", two("module.a", "b"), []string{"b", "module.a"}},
		{"compiled", two("_orig_mod.a", "_orig_mod.b"), []string{"a", "b"}},
		{"compiled parts", two("layers.0._orig_mod.a", "b"), []string{"b", "layers.0.a"}},
		{"compiled and parallel", two("_orig_mod.module.a", "_orig_mod.module.b"), []string{"a", "b"}},
		{"parallel and compiled", two("module._orig_mod.a", "module._orig_mod.b"), []string{"a", "b"}},
		{"sharded", two("_fsdp_wrapped_module.layers.0._fsdp_wrapped_module._checkpoint_wrapped_module.a", "b"), []string{"b", "layers.0.a"}},
		{"a similar name", two("x_orig_mod.a", "_orig_model.b"), []string{"_orig_model.b", "x_orig_mod.a"}},
		{"cache", two("layers.0.q._quantized_weight_cache", "b"), []string{"b", "layers.0.q._quantized_weight_cache"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := requireOpens(t, fileOf(c.body, data("0", 8), data("1", 8), data("2", 8)))
			require.Equal(t, c.want, names(r))
		})
	}
}

// What real trainers pickle beside their tensors.
func TestConfig(t *testing.T) {
	config := name("my.config", "Config") + ")\x81" + dict(str("hidden_size"), num(128), str("eps"), "G\x3e\xe4\xf8\xb5\x88\xe3\x68\xf1", str("tie"), "\x88", str("name"), str("x"),
		str("dtype"), name("torch", "bfloat16"), str("act"), call(name("my.config", "Act"), str("relu2")), str("path"), call(name("pathlib", "PosixPath"), str("a"), str("b")),
		str("none"), "N", str("layers"), list(num(1), num(2)), str("modules"), call(name("__builtin__", "set"), list(str("q")))) + "b"
	numpy := call(name("numpy.core.multiarray", "scalar"), call(name("numpy", "dtype"), str("f8"), "\x89", "\x88")+tuple(num(3), str("<"), "N")+"b",
		call(name("_codecs", "encode"), str("abc"), str("latin1")))
	r := requireOpens(t, fileOf(dict(
		str("model"), one, str("config"), config, str("step"), num(-7), str("pair"), tuple(num(1), "G\x7f\xf8\x00\x00\x00\x00\x00\x00"), str("loss"), numpy,
		str("args"), call(name("argparse", "Namespace"))+dict(str("lr"), num(3))+"b", str("easy"), name("easydict", "EasyDict")+")\x81"+"("+str("a")+num(1)+"u"+dict(str("a"), num(1))+"b",
		str("slots"), name("my", "S")+")\x81"+tuple("N", dict(str("a"), num(1)))+"b", str("counts"), call(name("collections", "defaultdict"), name("__builtin__", "int"))+"("+str("a")+num(1)+"u",
		str("mylist"), name("my", "L")+")\x81("+num(1)+num(2)+"e", str("set"), "\x8f("+num(1)+"\x90", str("rng_state"), floats("1", 2), str("optimizer_state_dict"), dict(str("lr"), num(1)),
		str("mixed"), list(num(1), floats("1", 2)), num(5), num(6), str("version"), call(name("torch.torch_version", "TorchVersion"), str("2.1.0")),
		str("big"), "\x8a\x08"+u64(-1<<63), str("slice"), list(name("my", "NotMade")),
	), data("0", 8), data("1", 8)))
	require.Equal(t, []string{"w"}, names(r))
	got := r.Config()
	pair := got["pair"].([]any)
	require.Len(t, pair, 2)
	delete(got, "pair") // holds a NaN, which equals nothing
	require.Equal(t, map[string]any{
		"config": map[string]any{"hidden_size": int64(128), "eps": 1e-5, "tie": true, "name": "x", "act": "relu2", "none": nil,
			"layers": []any{int64(1), int64(2)}, "modules": []any{"q"}},
		"step": int64(-7), "args": map[string]any{"lr": int64(3)}, "easy": map[string]any{"a": int64(1)}, "slots": map[string]any{"a": int64(1)},
		"counts": map[string]any{"a": int64(1)}, "mylist": []any{int64(1), int64(2)}, "version": "2.1.0", "big": int64(-1 << 63),
	}, got)
	require.Equal(t, map[string]string{"hidden_size": "128", "eps": "1e-05", "tie": "True", "name": "x", "act": "relu2"}, r.Metadata())

	r = requireOpens(t, fileOf(dict(str("model"), one, str("config"), dict(str("a"), num(1)), str("metadata"), dict(str("b"), "\x89", str("c"), "G\x7f\xf0\x00\x00\x00\x00\x00\x00")), data("0", 8)))
	require.Equal(t, map[string]string{"b": "False"}, r.Metadata())
}

// Values that a pickle repeats or nests without end cost what their limits say.
func TestConfigIsBounded(t *testing.T) {
	// Forty lists, each of which holds the one before twice.
	doubling := []string{"]q\x01"}
	for i := range 40 {
		last := "h" + string([]byte{byte(i + 1)})
		doubling = append(doubling, list(last, last)+"q"+string([]byte{byte(i + 2)}))
	}
	long := dict(strings.Repeat(num(1)+num(2), 5000)) + "q\xf0"
	for name, value := range map[string]string{
		"list of itself":       "]q\x01h\x01a",
		"dictionary of itself": "}q\x01" + str("a") + "h\x01s",
		"object of itself":     "cmy\nC\n)\x81q\x01" + dict(str("a"), "h\x01") + "b",
		"doubling":             list(doubling...),
		"long dictionaries":    list(long, strings.Repeat("h\xf0", 4000)),
		"long list":            list(strings.Repeat(num(1), 5000)),
	} {
		t.Run(name, func(t *testing.T) {
			r := requireOpens(t, fileOf(dict(str("model"), one, str("x"), value, str("y"), num(1)), data("0", 8)))
			require.Equal(t, []string{"w"}, slices.Sorted(slices.Values(names(r))))
		})
	}
}

// Every way in which tensors of other versions of PyTorch are pickled.
func TestRebuilds(t *testing.T) {
	two := storageID("FloatStorage", "0", 2)
	v1 := call(name("torch._utils", "_rebuild_tensor"), two, num(0), ints(2), ints(1))
	v2 := floats("0", 2)
	size := call(name("torch", "Size"), ints(2))
	for name, body := range map[string]string{
		"version 1":            v1,
		"version 2":            v2,
		"version 2, metadata":  call(name("torch._utils", "_rebuild_tensor_v2"), two, num(0), ints(2), ints(1), "\x89", ordered(), dict(str("neg"), "\x89")),
		"version 3":            untyped("0", 8, "float32", 2),
		"version 3, by alias":  untyped("0", 8, "float", 2),
		"parameter":            call(name("torch._utils", "_rebuild_parameter"), v2, "\x88", ordered()),
		"parameter with state": call(name("torch._utils", "_rebuild_parameter_with_state"), v2, "\x88", ordered(), dict(str("a"), num(1))),
		"of a type": call(name("torch._tensor", "_rebuild_from_type_v2"), name("torch._utils", "_rebuild_tensor_v2"), name("torch.nn.parameter", "Parameter"),
			tuple(two, num(0), ints(2), ints(1), "\x89", ordered()), dict()),
		"shape is a torch.Size": viewOf(two, 0, size, ints(1)),
	} {
		t.Run(name, func(t *testing.T) {
			r := requireOpens(t, fileOf(dict(str("w"), body), data("0", 8)))
			require.Equal(t, tensor.F32, r.Tensors()[0].DType)
			require.Equal(t, []int64{2}, r.Tensors()[0].Shape)
			require.NoError(t, readAll(r))
		})
	}
	for dtype, want := range map[string]tensor.DType{"uint16": tensor.U16, "uint32": tensor.U32, "uint64": tensor.U64, "float8_e4m3fn": tensor.F8E4M3, "bool": tensor.Bool} {
		r := requireOpens(t, fileOf(dict(str("w"), untyped("0", 2*want.Size(), dtype, 2)), data("0", 2*want.Size())))
		require.Equal(t, want, r.Tensors()[0].DType)
		require.Equal(t, int64(2*want.Size()), r.Tensors()[0].Size)
	}
}

// The other forms of archives and pickles that PyTorch and Python write.
func TestVariants(t *testing.T) {
	pkl := zipRecord{name: "m/data.pkl", data: whole(one)}
	stored := pkl
	stored.noDescriptor = true
	long, longData := pkl, data("0", 8)
	long.zip64, longData.zip64 = true, true
	framed := "\x80\x04\x95" + u64(len(one)+1) + one + "."
	short := "\x80\x04\x95" + u64(2) + "}\x94" + "\x95" + u64(len(floats("0", 2))+5) + "\x8c\x01w" + floats("0", 2) + "s."
	stack := strings.NewReplacer(name("torch._utils", "_rebuild_tensor_v2"), "\x8c\x0ctorch._utils\x94\x8c\x12_rebuild_tensor_v2\x94\x93\x94").Replace(whole(one))
	for name, file := range map[string][]byte{
		"no zip64 end":   archiveOf(zipEnd{plain: true}, pkl, data("0", 8)),
		"no descriptor":  archiveOf(zipEnd{}, stored, data("0", 8)),
		"zip64":          archiveOf(zipEnd{}, long, longData),
		"no byteorder":   archiveOf(zipEnd{}, pkl, data("0", 8)),
		"frame":          archiveOf(zipEnd{}, zipRecord{name: "m/data.pkl", data: framed}, data("0", 8)),
		"frames":         archiveOf(zipEnd{}, zipRecord{name: "m/data.pkl", data: short}, data("0", 8)),
		"stack global":   archiveOf(zipEnd{}, zipRecord{name: "m/data.pkl", data: stack}, data("0", 8)),
		"legacy":         legacyOf(littleSystem, one, legacyStorage{"0", 2, 8}),
		"legacy, long":   legacyOf(littleSystem, dict(str("model"), one, str("text"), str(strings.Repeat("x", 3<<20))), legacyStorage{"0", 2, 8}),
		"string of 2.x":  fileOf(dict("U\x01w", floats("0", 2)), data("0", 8)),
		"unused storage": fileOf(one, data("0", 8), data("1", 8)),
	} {
		t.Run(name, func(t *testing.T) {
			r := requireOpens(t, file)
			require.Equal(t, []string{"w"}, names(r))
			got := make([]byte, 8)
			_, err := r.Tensors()[0].ReadAt(got, 0)
			require.NoError(t, err)
			require.Equal(t, []byte{0, 1, 2, 3, 4, 5, 6, 7}, got)
		})
	}
}

// What a download or a wrong name leaves is said to be what it is.
func TestOpenOtherFiles(t *testing.T) {
	for content, want := range map[string]string{
		"version https://git-lfs.github.com/spec/v1\noid": "git lfs pull",
		"<!doctype html>":                   "a web page",
		"":                                  "0 bytes",
		"PK":                                "interrupted",
		"GGUF\x03\x00\x00\x00\x00":          "a GGUF file",
		"\x20\x00\x00\x00\x00\x00\x00\x00{": "a safetensors file",
		"12345678":                          "31 32 33",
	} {
		path := filepath.Join(t.TempDir(), "model.pt")
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		_, err := Open(path)
		requireGoodError(t, err)
		require.ErrorContains(t, err, want)
	}
	_, err := Open(t.TempDir())
	require.ErrorContains(t, err, "want a regular file")
	_, err = Open(filepath.Join(t.TempDir(), "absent"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

// An error names the file, the record, the byte and what stands there.
func TestErrorPlace(t *testing.T) {
	file := with(call(name("os", "system"), str("id")))
	_, err := openBytes(file)
	var format *tensor.FormatError
	require.ErrorAs(t, err, &format)
	require.Equal(t, "cos\nsystem\n", string(file[format.Offset:][:11]))
	require.Contains(t, format.Field, `record "m/data.pkl": pickle byte `)
	require.Contains(t, format.Hint, "do not trust it")
}

func TestIndexRefusals(t *testing.T) {
	shard := func(names ...string) []byte {
		var items []string
		for _, n := range names {
			items = append(items, str(n), floats("0", 2))
		}
		return fileOf(dict(items...), data("0", 8))
	}
	for _, c := range []struct {
		name, index string
		shards      map[string][]byte
		err         string
	}{
		{"in order", `{"weight_map":{"a":"1.bin","b":"2.bin"}}`, map[string][]byte{"1.bin": shard("a"), "2.bin": shard("b")}, ""},
		{"missing shard", `{"weight_map":{"a":"1.bin","b":"2.bin"}}`, map[string][]byte{"1.bin": shard("a")}, "download the missing shard"},
		{"missing tensor", `{"weight_map":{"a":"1.bin","b":"1.bin"}}`, map[string][]byte{"1.bin": shard("a")}, `no such tensor in "1.bin"`},
		{"extra tensor", `{"weight_map":{"a":"1.bin"}}`, map[string][]byte{"1.bin": shard("a", "b")}, `got it in "1.bin" only`},
		{"tensor twice", `{"weight_map":{"a":"1.bin","b":"2.bin"}}`, map[string][]byte{"1.bin": shard("a"), "2.bin": shard("a", "b")}, `got it in both "1.bin" and "2.bin"`},
		{"wrong shard", `{"weight_map":{"a":"1.bin","b":"2.bin","c":"2.bin"}}`, map[string][]byte{"1.bin": shard("a", "b"), "2.bin": shard("c")}, `got it in "1.bin", want it in "2.bin"`},
		{"damaged shard", `{"weight_map":{"a":"1.bin"}}`, map[string][]byte{"1.bin": shard("a")[:300]}, "1.bin: offset"},
		{"path", `{"weight_map":{"a":"../1.bin"}}`, nil, "the plain name of a file beside the index"},
		{"not JSON", `{`, nil, "index"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, content := range c.shards {
				require.NoError(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
			}
			path := filepath.Join(dir, "pytorch_model.bin.index.json")
			require.NoError(t, os.WriteFile(path, []byte(c.index), 0o600))
			r, err := OpenIndex(path)
			if c.err == "" {
				require.NoError(t, err)
				require.NoError(t, readAll(r))
				require.NoError(t, r.Close())
				return
			}
			requireGoodError(t, err)
			require.ErrorContains(t, err, c.err)
		})
	}
}

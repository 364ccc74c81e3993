package verify

import (
	"bytes"
	"context"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"crypto/ed25519"
	"encoding/pem"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/tritter-ai/tritter/convert"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/quantize"
)

// TestTritStats: counts by tiles are those by trits, in both encodings and with
// padded rows and columns.
func TestTritStats(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, shape := range [][2]int{{1, 1}, {5, 129}, {4, 128}, {9, 300}} {
		rows := make([][]int8, shape[0])
		want := TritStats{}
		for i := range rows {
			rows[i] = make([]int8, shape[1])
			for j := range rows[i] {
				switch i % 4 {
				case 0: // zeros
				case 1:
					rows[i][j] = -1
				default:
					rows[i][j] = int8(r.IntN(3) - 1)
				}
				switch rows[i][j] {
				case -1:
					want.Minus++
				case 0:
					want.Zero++
				case 1:
					want.Plus++
				}
			}
			switch i % 4 {
			case 0:
				want.ZeroRows++
			case 1:
				want.OneSymbolRows++
			}
		}
		for e, pack := range map[format.Encoding]func([]byte, [][]int8, int){format.Trit2: quantize.Pack2, format.Trit3: quantize.Pack3} {
			size := map[format.Encoding]int{format.Trit2: quantize.TileRowBytes2(shape[1]), format.Trit3: quantize.TileRowBytes3(shape[1])}[e]
			var data []byte
			for i := 0; i < len(rows); i += 4 {
				part := make([]byte, size)
				pack(part, rows[i:min(i+4, len(rows))], shape[1])
				data = append(data, part...)
			}
			got := countTrits(data, &format.TensorInfo{Encoding: e, Dims: shape[:]})
			require.Equal(t, want, *got, "%v %v", e, shape)
		}
	}
}

func TestScaleStats(t *testing.T) {
	require.Equal(t, &ScaleStats{Count: 5, Min: 0, Median: 1, Max: 17, Negative: 1, Zero: 1, Outliers: 1}, scaleStats([]float32{1, -1, 17, 0, 1.5}))
	s := TensorStats{Dims: []int{2, 2}, Scales: scaleStats([]float32{1, 1, 1, 0.01}), Trits: &TritStats{ZeroRows: 2}}
	require.Equal(t, []string{"2 rows of zeros", "1 scales beyond 16 times their median"}, anomalies(&s))
}

// TestMeasured: the numbers of a file are those of its tensors.
func TestMeasured(t *testing.T) {
	source, path := makeFile(t, 1, convert.Options{Head: "int8"})
	r := check(t, path, Options{Tensors: true, Source: source})
	require.True(t, r.OK())
	byName := map[string]TensorStats{}
	for _, s := range r.Tensors {
		byName[s.Name] = s
	}
	q := byName["layers.0.q.weight"]
	require.Equal(t, "q", q.Role)
	require.Equal(t, int64(16*16), q.Trits.Minus+q.Trits.Zero+q.Trits.Plus)
	require.Equal(t, 1, q.Scales.Count)
	require.Greater(t, q.Error.Relative, 0.2)
	require.Less(t, q.Error.Relative, 0.9)
	embed := byName["embed.weight"]
	require.Equal(t, "int8", embed.Encoding)
	require.Greater(t, embed.Values.RMS, 0.0)
	require.LessOrEqual(t, float64(embed.Values.Min), -embed.Values.RMS)
	require.Nil(t, embed.Trits)
	require.Equal(t, 1, r.Card.Layers)
	require.Equal(t, "bitnet", r.Card.Family)
	require.Greater(t, r.Card.BitsPerWeight, 2.0)
}

func TestQuick(t *testing.T) {
	_, path := makeFile(t, 1, convert.Options{})
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	f, err := format.OpenBytes(data)
	require.NoError(t, err)
	tensor, _ := f.Tensor("layers.0.q.weight")
	data[tensor.Info().Offset] ^= 1
	require.NoError(t, os.WriteFile(path, data, 0o644))
	require.True(t, check(t, path, Options{Quick: true}).OK(), "--quick does not read weights")
	full := check(t, path, Options{})
	require.False(t, full.OK())
	require.Equal(t, "checksum", full.Findings[0].Class)
	require.Len(t, full.Findings[0].Expected, 64)
	require.Equal(t, "layers.0.q.weight", full.Findings[0].Tensor)
}

// TestReader: a file behind an io.ReaderAt is checked like a mapped one.
func TestReader(t *testing.T) {
	_, path := makeFile(t, 1, convert.Options{})
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	mapped := check(t, path, Options{Run: true, Tensors: true})
	read, err := Reader(context.Background(), path, bytes.NewReader(data), int64(len(data)), Options{Run: true, Tensors: true}, nil)
	require.NoError(t, err)
	for _, r := range []*Report{mapped, read} {
		for i := range r.Checks {
			r.Checks[i].Seconds = 0
		}
		for i := range r.Tensors {
			r.Tensors[i].info = nil
		}
	}
	require.Equal(t, mapped, read)
	data[len(data)-1] ^= 1
	read, err = Reader(context.Background(), "x", bytes.NewReader(data), int64(len(data)), Options{}, nil)
	require.NoError(t, err)
	require.False(t, read.OK())
}

func TestCompare(t *testing.T) {
	_, path := makeFile(t, 1, convert.Options{})
	_, same := makeFile(t, 1, convert.Options{})
	_, packed := makeFile(t, 1, convert.Options{Encoding: "trit3"})
	_, other := makeFile(t, 2, convert.Options{})
	_, rows := makeFile(t, 1, convert.Options{Rule: "absmean-row"})
	_, int8s := makeFile(t, 1, convert.Options{Head: "int8"})
	compare := func(with string) *Report { return check(t, path, Options{Compare: with}) }
	require.Empty(t, compare(same).Findings)
	require.Empty(t, compare(packed).Findings, "the same trits in another encoding")

	found := func(r *Report, part string) *Finding {
		for i := range r.Findings {
			require.Equal(t, "compare", r.Findings[i].Check)
			if strings.Contains(r.Findings[i].Message, part) {
				return &r.Findings[i]
			}
		}
		t.Fatalf("no finding with %q in %v", part, r.Findings)
		return nil
	}
	require.Equal(t, "layers.0.q.weight", found(compare(other), "scale 0 is").Tensor)
	require.Equal(t, "embed.weight", found(compare(other), "bytes differ, the first is").Tensor)
	found(compare(rows), "the tensor is trits, scales by tensor 0, [16 16], there it is trits, scales by row 0")
	found(compare(int8s), "the tensor is f16 [20 16], there it is int8 [20 16]")
	found(compare(rewrite(t, path, map[string]func([]byte) []byte{"generation": func([]byte) []byte { return nil }})), "section generation (")

	trit := check(t, rewriteTensors(t, path, nil, map[string]func([]byte){"layers.0.q.weight": func(b []byte) {
		b[0] = b[0]&^3 | map[byte]byte{0: 1, 1: 3, 3: 0}[b[0]&3]
	}}), Options{Compare: packed})
	found(trit, "the trit at row 0, column 0 is")

	_, err := File(context.Background(), path, Options{Compare: filepath.Join(t.TempDir(), "none")}, nil)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestSignature(t *testing.T) {
	_, path := makeFile(t, 1, convert.Options{})
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		p := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(p, data, 0o600))
		return p
	}
	newKey := func(name string, phrase []byte) (file, allowed string) {
		public, secret, err := ed25519.GenerateKey(nil)
		require.NoError(t, err)
		block, err := ssh.MarshalPrivateKey(secret, "")
		if phrase != nil {
			block, err = ssh.MarshalPrivateKeyWithPassphrase(secret, "", phrase)
		}
		require.NoError(t, err)
		key, err := ssh.NewPublicKey(public)
		require.NoError(t, err)
		return write(name, pem.EncodeToMemory(block)), write(name+".allowed", append([]byte(name+" "), ssh.MarshalAuthorizedKey(key)...))
	}
	never := func() ([]byte, error) { t.Fatal("no passphrase is needed"); return nil, nil }
	mine, allowed := newKey("me", nil)
	_, others := newKey("you", nil)
	signature := func(opt Options) Check {
		r := check(t, path, opt)
		for _, c := range r.Checks {
			if c.Name == "signature" {
				if c.Status == Failed {
					c.Detail = r.Findings[0].Message
				}
				return c
			}
		}
		return Check{}
	}
	require.Empty(t, signature(Options{}), "no signature, none asked for")
	c := signature(Options{AllowedSigners: allowed})
	require.Equal(t, Failed, c.Status)
	require.Contains(t, c.Detail, "there is no signature")

	out, err := Sign(path, mine, never)
	require.NoError(t, err)
	require.Equal(t, path+".sig", out)
	c = signature(Options{AllowedSigners: allowed})
	require.Equal(t, Passed, c.Status)
	require.Contains(t, c.Detail, "by me, key SHA256:")
	require.Equal(t, Skipped, signature(Options{}).Status, "it is there, and nobody vouches for the key")
	require.Contains(t, signature(Options{AllowedSigners: others}).Detail, "none of the 1 allowed signers")
	require.Empty(t, signature(Options{Unsigned: true}))

	_, other := makeFile(t, 2, convert.Options{})
	moved, err := os.ReadFile(out)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(other+".sig", moved, 0o600))
	r := check(t, other, Options{AllowedSigners: allowed})
	require.Contains(t, r.Findings[0].Message, "not one of this content")
	require.Equal(t, "signature", r.Findings[0].Class)

	locked, lockedAllowed := newKey("locked", []byte("word"))
	_, err = Sign(path, locked, func() ([]byte, error) { return []byte("word"), nil })
	require.NoError(t, err)
	require.Equal(t, Passed, signature(Options{AllowedSigners: lockedAllowed}).Status)
	_, err = Sign(path, allowed, never)
	require.ErrorContains(t, err, "want a private key")
}

func TestValuesOfWhatIsNotFinite(t *testing.T) {
	s, err := values(context.Background(), []byte{0, 0, 0xc0, 0x7f}, nil, &format.TensorInfo{Encoding: format.F32, Dims: []int{1}})
	require.NoError(t, err)
	require.Nil(t, s, "JSON has no %v", math.NaN())
}

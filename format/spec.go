package format

import (
	"fmt"
	"strings"
)

// TensorSpec is what a writer decides about a tensor; offsets follow from it.
type TensorSpec struct {
	Name        string // [a-z0-9_.], 1 to 128 bytes, unique in the file
	Encoding    Encoding
	Rule        Rule
	Granularity Granularity
	Dims        []int // [n] or [out, in]
	Group       int   // columns that share a scale, for ScaleGroup; otherwise 0
}

// Offsets of the fields of a tensor's record (spec/trit-v1.md, 3.1).
const (
	recEncoding    = 128
	recRule        = 130
	recGranularity = 132
	recRank        = 134
	recDim0        = 136
	recDim1        = 140
	recGroup       = 144
	recZero1       = 148
	recOffset      = 152
	recLength      = 160
	recScaleOffset = 168
	recScaleLength = 176
	recSHA         = 184
	recScaleSHA    = 216
	recZero2       = 248
)

// fault is a broken rule of one record; off is relative to the record.
type fault struct {
	off              int64
	field, got, want string
	hint             string
}

// fault returns the first rule of spec/trit-v1.md, 3.1 that the spec breaks,
// or nil. Reader and writer share it.
func (t *TensorSpec) fault() *fault {
	if f := nameFault(t.Name, MaxName, tensorNameByte, "[a-z0-9_.]"); f != nil {
		return f
	}
	if t.Encoding < F32 || t.Encoding > Trit3 {
		return &fault{recEncoding, "encoding", fmt.Sprint(uint16(t.Encoding)), "1..6", ""}
	}
	if t.Rule > Verbatim {
		return &fault{recRule, "rule", fmt.Sprint(uint16(t.Rule)), "0..3", ""}
	}
	if t.Granularity > ScaleGroup {
		return &fault{recGranularity, "scale granularity", fmt.Sprint(uint16(t.Granularity)), "0..3", ""}
	}
	if len(t.Dims) < 1 || len(t.Dims) > MaxRank {
		return &fault{recRank, "rank", fmt.Sprint(len(t.Dims)), "1 or 2", ""}
	}
	for i, d := range t.Dims {
		if d < 1 || d > MaxDim {
			return &fault{recDim0 + 4*int64(i), fmt.Sprintf("dim %d", i), fmt.Sprint(d), fmt.Sprintf("1..%d", MaxDim), ""}
		}
	}
	if f := t.combinationFault(); f != nil {
		return f
	}
	if t.Granularity == ScaleGroup {
		if t.Group < TileCols || t.Group > MaxDim || t.Group%TileCols != 0 {
			return &fault{recGroup, "group", fmt.Sprint(t.Group), "a positive multiple of 128", "granularity is group"}
		}
	} else if t.Group != 0 {
		return &fault{recGroup, "group", fmt.Sprint(t.Group), "0", fmt.Sprintf("granularity is %v", t.Granularity)}
	}
	if _, err := DataSize(t.Encoding, t.Dims); err != nil {
		return &fault{recDim0, "dims", fmt.Sprint(t.Dims), "a size below 2^62 bytes", err.Error()}
	}
	if _, err := ScaleCount(t.Granularity, t.Dims, t.Group); err != nil {
		return &fault{recGroup, "scales", fmt.Sprint(t.Dims), "a size below 2^62 bytes", err.Error()}
	}
	return nil
}

// combinationFault checks which rule, granularity and rank go with an encoding.
func (t *TensorSpec) combinationFault() *fault {
	enc := "encoding is " + t.Encoding.String()
	if !t.Encoding.Ternary() && t.Rule != RuleNone {
		return &fault{recRule, "rule", t.Rule.String(), "none", enc}
	}
	switch t.Encoding {
	case Trit2, Trit3:
		if t.Rule == RuleNone {
			return &fault{recRule, "rule", "none", "absmean, threshold or verbatim", enc}
		}
		if t.Granularity == ScaleNone {
			return &fault{recGranularity, "scale granularity", "none", "tensor, row or group", enc}
		}
	case Int8:
		if t.Granularity != ScaleRow {
			return &fault{recGranularity, "scale granularity", t.Granularity.String(), "row", enc}
		}
	default:
		if t.Granularity != ScaleNone {
			return &fault{recGranularity, "scale granularity", t.Granularity.String(), "none", enc}
		}
		return nil
	}
	if len(t.Dims) != 2 {
		return &fault{recRank, "rank", fmt.Sprint(len(t.Dims)), "2", enc}
	}
	return nil
}

func tensorNameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_' || c == '.'
}

func dashNameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-'
}

func nameFault(name string, limit int, legal func(byte) bool, set string) *fault {
	want := fmt.Sprintf("1 to %d bytes of %s", limit, set)
	if len(name) == 0 || len(name) > limit {
		return &fault{0, "name", fmt.Sprintf("%d bytes long", len(name)), want, ""}
	}
	if i := strings.IndexFunc(name, func(r rune) bool { return r > 0x7f || !legal(byte(r)) }); i >= 0 {
		return &fault{int64(i), "name", fmt.Sprintf("%q", name), want, ""}
	}
	return nil
}

package model

import "fmt"

// Role is what a tensor is for. Together with the layer it determines the
// tensor's name and shape.
type Role string

// Kind is how a tensor may be stored.
type Kind uint8

// The kinds of tensor.
const (
	// Matrix tensors are the projections: [out, in], ternary in every model.
	Matrix Kind = iota
	// Table tensors are the embedding and an untied head: [vocab, hidden], dense,
	// int8 per row, or (the head only) ternary.
	Table
	// Vector tensors are norm weights: rank 1, f32, f16 or bf16.
	Vector
	// Bias tensors are rank 1 and always f32.
	Bias
)

// NoLayer is the Layer of tensors outside the blocks.
const NoLayer = -1

// Tensor is one entry of a model's manifest.
type Tensor struct {
	Name  string // as it stands in a .trit directory, "layers.0.q.weight"
	Role  Role   // "q", "attn_norm", "embed", "head", "norm"
	Layer int    // NoLayer outside the blocks
	Kind  Kind
	Shape []int // [out, in] for Matrix and Table, [n] for Vector and Bias
}

// Roles outside the blocks. Inside, a projection's role is its name and a norm's
// is its position followed by "_norm".
const (
	RoleEmbed Role = "embed"
	RoleHead  Role = "head"
	RoleNorm  Role = "norm"
)

// Name returns the tensor name of a role: Name(3, "q", "weight") is
// "layers.3.q.weight" and Name(NoLayer, RoleNorm, "bias") is "norm.bias".
func Name(layer int, role Role, part string) string {
	if layer == NoLayer {
		return string(role) + "." + part
	}
	return fmt.Sprintf("layers.%d.%s.%s", layer, role, part)
}

// NormRole returns the role of the norm at p: "attn" gives "attn_norm".
func NormRole(p NormPosition) Role { return Role(p) + "_norm" }

// InNormRole returns the role of the norm inside projection p: "q" gives
// "q_in_norm".
func InNormRole(p Projection) Role { return Role(p) + "_in_norm" }

// ProjectionShape returns [out, in] of projection p.
func (c *Config) ProjectionShape(p Projection) [2]int {
	q, kv := c.NumHeads*c.HeadDim, c.NumKVHeads*c.HeadDim
	switch p {
	case Q:
		return [2]int{q, c.HiddenSize}
	case K, V:
		return [2]int{kv, c.HiddenSize}
	case O:
		return [2]int{c.HiddenSize, q}
	case Gate, Up:
		return [2]int{c.IntermediateSize, c.HiddenSize}
	case Down:
		return [2]int{c.HiddenSize, c.IntermediateSize}
	}
	panic(fmt.Sprintf("model: unknown projection %q", p))
}

// NormSize returns the length of the norm at p.
func (c *Config) NormSize(p NormPosition) int {
	switch p {
	case NormAttn, NormMLP, NormPostAttn, NormPostMLP:
		return c.HiddenSize
	case NormAttnSub:
		return c.NumHeads * c.HeadDim
	case NormMLPSub:
		return c.IntermediateSize
	case NormQ, NormK:
		return c.HeadDim
	}
	panic(fmt.Sprintf("model: unknown norm position %q", p))
}

// blockOrder is the order of a block's tensors in a file: the order in which a
// forward pass reads them.
var blockOrder = []struct {
	norm NormPosition
	proj Projection
}{
	{norm: NormAttn}, {proj: Q}, {proj: K}, {proj: V}, {norm: NormQ}, {norm: NormK},
	{norm: NormAttnSub}, {proj: O}, {norm: NormPostAttn},
	{norm: NormMLP}, {proj: Gate}, {proj: Up}, {norm: NormMLPSub}, {proj: Down}, {norm: NormPostMLP},
}

// Manifest lists every tensor of a model with this Config, in the order in which
// a .trit file holds them. A file with a tensor missing, extra or of another
// shape is refused. c must be valid.
func (c *Config) Manifest() []Tensor {
	var ts []Tensor
	add := func(layer int, role Role, part string, kind Kind, shape ...int) {
		ts = append(ts, Tensor{Name: Name(layer, role, part), Role: role, Layer: layer, Kind: kind, Shape: shape})
	}
	norm := func(layer int, role Role, n int) {
		add(layer, role, "weight", Vector, n)
		if c.Norm == LayerNorm {
			add(layer, role, "bias", Bias, n)
		}
	}
	add(NoLayer, RoleEmbed, "weight", Table, c.VocabSize, c.HiddenSize)
	for layer := range c.NumLayers {
		for _, b := range blockOrder {
			switch {
			case b.proj != "":
				s := c.ProjectionShape(b.proj)
				if c.HasNorm(NormProj) {
					add(layer, InNormRole(b.proj), "weight", Vector, s[1])
				}
				add(layer, Role(b.proj), "weight", Matrix, s[0], s[1])
				if c.HasBias(b.proj) {
					add(layer, Role(b.proj), "bias", Bias, s[0])
				}
			case c.HasNorm(b.norm):
				norm(layer, NormRole(b.norm), c.NormSize(b.norm))
			}
		}
	}
	norm(NoLayer, RoleNorm, c.HiddenSize)
	if !c.TiedHead {
		add(NoLayer, RoleHead, "weight", Table, c.VocabSize, c.HiddenSize)
	}
	return ts
}

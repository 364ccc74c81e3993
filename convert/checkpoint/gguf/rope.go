package gguf

// The rows of q and k, and the elements of their biases, stand in another order in
// files of architecture "llama": it rotates neighbours, elements 2 j and 2 j + 1 of a
// head, where Hugging Face and .trit rotate elements j and j + headDim/2. Other
// architectures, bitnet and bitnet-b1.58 among them, keep the order.

// HalfPairRow returns which row of a projection in half-pair order stands at row i of
// the file. rows is that of the whole projection, a multiple of 2 heads.
func HalfPairRow(i, rows, heads int) int {
	headDim := rows / heads
	head, e := i/headDim, i%headDim
	return head*headDim + e%2*(headDim/2) + e/2
}

// FileRow is the inverse of [HalfPairRow]: it returns where in the file row i of a
// projection in half-pair order stands.
func FileRow(i, rows, heads int) int {
	headDim := rows / heads
	head, e := i/headDim, i%headDim
	return head*headDim + e%(headDim/2)*2 + e/(headDim/2)
}

package export

// Quotient is quotient, for the tests.
var Quotient = quotient

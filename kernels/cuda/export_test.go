package cuda

// SetPart makes every product of many tokens take that size of parts.
func (d *Device) SetPart(tokens int) { d.part = tokens }

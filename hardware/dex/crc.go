package dex

// crc is CRC-16/ARC: x16+x15+x2+1, reflected, from zero (EVA-DTS 6.1.1, annex A and G85).
func crc(sum uint16, b ...byte) uint16 {
	for _, x := range b {
		sum ^= uint16(x)
		for range 8 {
			if sum&1 != 0 {
				sum = sum>>1 ^ 0xA001
			} else {
				sum >>= 1
			}
		}
	}
	return sum
}

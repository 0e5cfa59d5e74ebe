package qr

// penalty is the sum of the four features of ISO/IEC 18004 section 7.8.3.1 that
// make a code hard to read: the smaller the better.
func (m *matrix) penalty() int {
	sum, black := 0, 0
	for i := range m.size {
		sum += line(m.size, func(k int) bool { return m.at(k, i) })
		sum += line(m.size, func(k int) bool { return m.at(i, k) })
	}
	for y := range m.size {
		for x := range m.size {
			c := m.at(x, y)
			if c {
				black++
			}
			if x > 0 && y > 0 && c == m.at(x-1, y) && c == m.at(x, y-1) && c == m.at(x-1, y-1) {
				sum += 3 // a block of 2 x 2
			}
		}
	}
	// Ten for every five per cent away from one half.
	total := m.size * m.size
	off := black*20 - total*10
	if off < 0 {
		off = -off
	}
	return sum + off/total*10
}

// line is the penalty of one row or column: runs of five and more modules of one
// colour, and what looks like a finder pattern beside four light modules.
func line(n int, at func(int) bool) int {
	const (
		before = 0b0000_1011101 // four light, then 1:1:3:1:1
		after  = 0b1011101_0000
		window = 1<<11 - 1
	)
	sum, run, last, bits := 0, 0, false, 0
	for k := range n {
		c := at(k)
		if k > 0 && c == last {
			run++
		} else {
			run = 1
		}
		switch {
		case run == 5:
			sum += 3
		case run > 5:
			sum++
		}
		last = c
		bits = bits << 1 & window
		if c {
			bits |= 1
		}
		if k >= 10 && (bits == before || bits == after) {
			sum += 40
		}
	}
	return sum
}

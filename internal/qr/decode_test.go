package qr_test

import (
	"bytes"
	"image/png"
	"testing"

	"github.com/stretchr/testify/require"
)

// The tests read codes with a reader of their own, written from ISO/IEC 18004 and
// sharing nothing with the encoder: it takes clean pictures, so it needs no error
// correction. layouts has the versions that the tests meet.
var layouts = map[int]struct {
	align  []int // centres of the alignment patterns (annex E)
	blocks []int // data codewords of each block (table 9), level M
	check  int   // error correction codewords of each block
}{
	1:  {nil, []int{16}, 10},
	2:  {[]int{6, 18}, []int{28}, 16},
	7:  {[]int{6, 22, 38}, []int{31, 31, 31, 31}, 18},
	10: {[]int{6, 28, 50}, []int{43, 43, 43, 43, 44}, 26},
	14: {[]int{6, 26, 46, 66}, []int{40, 40, 40, 40, 41, 41, 41, 41, 41}, 24},
}

// grid is a code without its quiet zone.
type grid [][]bool

// scan reads a picture's modules; it demands whole modules and a light border of
// four of them.
func scan(t *testing.T, file []byte) grid {
	t.Helper()
	img, err := png.Decode(bytes.NewReader(file))
	require.NoError(t, err)
	b := img.Bounds()
	require.Equal(t, b.Dx(), b.Dy())
	dark := func(x, y int) bool { r, _, _, _ := img.At(x, y).RGBA(); return r < 0x8000 }
	first := 0 // the top left corner of the finder pattern is the first dark pixel
	for !dark(first, first) {
		first++
	}
	run := 0 // its first row is seven dark modules
	for dark(first+run, first) {
		run++
	}
	require.Zero(t, run%7)
	scale := run / 7
	require.Equal(t, 4*scale, first, "quiet zone")
	n := b.Dx()/scale - 8
	require.Equal(t, b.Dx(), (n+8)*scale)
	g := make(grid, n)
	for y := range b.Dy() {
		for x := range b.Dx() {
			mx, my := x/scale-4, y/scale-4
			inside := mx >= 0 && my >= 0 && mx < n && my < n && x >= first && y >= first
			if !inside {
				if dark(x, y) {
					t.Fatalf("quiet zone at %d,%d", x, y)
				}
				continue
			}
			if x%scale == 0 && y%scale == 0 {
				if mx == 0 {
					g[my] = make([]bool, n)
				}
				g[my][mx] = dark(x, y)
			}
			if g[my][mx] != dark(x, y) {
				t.Fatalf("module %d,%d is not of one colour", mx, my)
			}
		}
	}
	return g
}

// read returns level (00 is M), mask and the text of a code in byte mode.
func (g grid) read(t *testing.T) (level, mask int, text string) {
	t.Helper()
	n := len(g)
	version := (n - 17) / 4
	layout, ok := layouts[version]
	require.True(t, ok, "version %d", version)
	format := g.format(t)
	level, mask = format>>13, format>>10&7
	require.Zero(t, level, "layouts is for level M")

	taken := g.function(version, layout.align)
	var bits []bool
	for right, up := n-1, true; right > 0; right, up = right-2, !up {
		if right == 6 {
			right-- // the timing column
		}
		for k := range n {
			y := k
			if up {
				y = n - 1 - k
			}
			for _, x := range []int{right, right - 1} {
				if !taken[y][x] {
					bits = append(bits, g[y][x] != masked(mask, y, x))
				}
			}
		}
	}
	codewords := make([]byte, len(bits)/8)
	for i := range codewords {
		for k := range 8 {
			codewords[i] <<= 1
			if bits[i*8+k] {
				codewords[i]++
			}
		}
	}
	return level, mask, message(t, version, deinterleave(t, layout.blocks, layout.check, codewords))
}

// format reads both copies of the format information and checks its BCH code.
func (g grid) format(t *testing.T) int {
	n := len(g)
	one, two := 0, 0
	bit := func(v *int, y, x int) {
		*v <<= 1
		if g[y][x] {
			*v++
		}
	}
	for _, x := range []int{0, 1, 2, 3, 4, 5, 7, 8} {
		bit(&one, 8, x)
	}
	for _, y := range []int{7, 5, 4, 3, 2, 1, 0} {
		bit(&one, y, 8)
	}
	for k := range 7 {
		bit(&two, n-1-k, 8)
	}
	for k := range 8 {
		bit(&two, 8, n-8+k)
	}
	require.Equal(t, one, two)
	require.True(t, g[n-8][8], "the dark module")
	v := one ^ 0b101010000010010
	rest := v
	for k := 14; k >= 10; k-- {
		if rest>>k&1 == 1 {
			rest ^= 0b10100110111 << (k - 10)
		}
	}
	require.Zero(t, rest, "BCH code of the format information")
	return v
}

// function marks the modules that carry no data.
func (g grid) function(version int, align []int) [][]bool {
	n := len(g)
	taken := make([][]bool, n)
	for y := range taken {
		taken[y] = make([]bool, n)
	}
	mark := func(x0, y0, w, h int) {
		for y := y0; y < y0+h; y++ {
			for x := x0; x < x0+w; x++ {
				taken[y][x] = true
			}
		}
	}
	mark(0, 0, 9, 9)
	mark(n-8, 0, 8, 9)
	mark(0, n-8, 9, 8)
	mark(6, 0, 1, n)
	mark(0, 6, n, 1)
	if version >= 7 {
		mark(n-11, 0, 3, 6)
		mark(0, n-11, 6, 3)
	}
	for i, y := range align {
		for k, x := range align {
			corner := i == 0 && k == 0 || i == 0 && k == len(align)-1 || i == len(align)-1 && k == 0
			if !corner {
				mark(x-2, y-2, 5, 5)
			}
		}
	}
	return taken
}

func masked(mask, i, j int) bool {
	switch mask {
	case 0:
		return (i+j)%2 == 0
	case 1:
		return i%2 == 0
	case 2:
		return j%3 == 0
	case 3:
		return (i+j)%3 == 0
	case 4:
		return (i/2+j/3)%2 == 0
	case 5:
		return i*j%2+i*j%3 == 0
	case 6:
		return (i*j%2+i*j%3)%2 == 0
	}
	return ((i+j)%2+i*j%3)%2 == 0
}

func deinterleave(t *testing.T, blocks []int, check int, codewords []byte) []byte {
	longest, total := 0, 0
	for _, b := range blocks {
		longest, total = max(longest, b), total+b
	}
	require.Len(t, codewords, total+check*len(blocks))
	parts := make([][]byte, len(blocks))
	next := 0
	for i := range longest {
		for b, size := range blocks {
			if i < size {
				parts[b] = append(parts[b], codewords[next])
				next++
			}
		}
	}
	return bytes.Join(parts, nil)
}

// message reads one segment in byte mode and the terminator.
func message(t *testing.T, version int, data []byte) string {
	require.Equal(t, byte(0b0100), data[0]>>4, "byte mode")
	nibble := func(i int) int { return int(data[i/2]>>(4*(1-i%2))) & 15 }
	digits := 2
	if version >= 10 {
		digits = 4
	}
	n := 0
	for i := range digits {
		n = n<<4 | nibble(1+i)
	}
	text := make([]byte, n)
	for i := range text {
		text[i] = byte(nibble(1+digits+2*i)<<4 | nibble(2+digits+2*i))
	}
	if at := 1 + digits + 2*n; at < 2*len(data) {
		require.Zero(t, nibble(at), "terminator")
	}
	return string(text)
}

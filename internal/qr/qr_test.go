package qr_test

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"image/png"
	"io"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/qr"
)

// activation is as long as an activation code with its signature.
var activation = "ABCDE-FGHIJ-KLMNO-PQRST#" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xA5, 0x3C, 0x01}, 24))

func TestPNGIsReadByAReaderOfItsOwn(t *testing.T) {
	t.Parallel()
	long := activation + strings.Repeat("offline\nApprove payment č. 7 ✓", 8)
	for name, c := range map[string]struct {
		text    string
		version int
	}{
		"one letter":        {"a", 1},
		"version 1 is full": {"signet is here", 1},
		"one more":          {"signet is here!", 2},
		"activation code":   {activation, 7},
		"offline operation": {long[:213], 10},
		"wide":              {long[:362], 14},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file, err := qr.PNG(c.text, 0)
			require.NoError(t, err)
			g := scan(t, file)
			require.Len(t, g, 17+4*c.version)
			level, _, text := g.read(t)
			require.Zero(t, level, "level M")
			require.Equal(t, c.text, text)
			for _, corner := range [][2]int{{0, 0}, {len(g) - 7, 0}, {0, len(g) - 7}} {
				require.Equal(t, finder, around(g, corner[0], corner[1]))
			}
			for k := 8; k < len(g)-8; k++ {
				require.Equal(t, k%2 == 0, g[6][k], "timing")
				require.Equal(t, k%2 == 0, g[k][6], "timing")
			}
		})
	}
}

const finder = `
#######
#.....#
#.###.#
#.###.#
#.###.#
#.....#
#######`

func around(g grid, x0, y0 int) string {
	var b strings.Builder
	for y := y0; y < y0+7; y++ {
		b.WriteByte('\n')
		for x := x0; x < x0+7; x++ {
			b.WriteByte(".#"[btoi(g[y][x])])
		}
	}
	return b.String()
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestTheMaskIsChosen(t *testing.T) {
	t.Parallel()
	seen := map[int]bool{}
	for i := range 40 {
		file, err := qr.PNG("text "+strconv.Itoa(i), 66)
		require.NoError(t, err)
		_, mask, text := scan(t, file).read(t)
		require.Equal(t, "text "+strconv.Itoa(i), text)
		seen[mask] = true
	}
	require.Greater(t, len(seen), 3, "always the same mask")
}

var path = regexp.MustCompile(`M(\d+) (\d+)h(\d+)v1h-(\d+)z`)

func TestSVGShowsTheSameModules(t *testing.T) {
	t.Parallel()
	doc, err := qr.SVG(activation)
	require.NoError(t, err)
	require.NotContains(t, string(doc), activation[:23])
	dec := xml.NewDecoder(bytes.NewReader(doc))
	for {
		if _, err := dec.Token(); err == io.EOF {
			break
		} else {
			require.NoError(t, err)
		}
	}
	file, err := qr.PNG(activation, 0)
	require.NoError(t, err)
	want := scan(t, file)
	require.Contains(t, string(doc), `viewBox="0 0 53 53"`)
	got := make(grid, len(want))
	for y := range got {
		got[y] = make([]bool, len(want))
	}
	for _, m := range path.FindAllStringSubmatch(string(doc), -1) {
		n := make([]int, 5)
		for i := 1; i < 5; i++ {
			n[i], err = strconv.Atoi(m[i])
			require.NoError(t, err)
		}
		require.Equal(t, n[3], n[4])
		for k := range n[3] {
			got[n[2]-4][n[1]-4+k] = true
		}
	}
	require.Equal(t, want, got)
}

func TestSizes(t *testing.T) {
	t.Parallel()
	for asked, side := range map[int]int{0: 477, 53: 53, 105: 53, 106: 106, 300: 265, qr.MaxSize: 2014} {
		file, err := qr.PNG(activation, asked)
		require.NoError(t, err)
		c, err := png.DecodeConfig(bytes.NewReader(file))
		require.NoError(t, err)
		require.Equal(t, []int{side, side}, []int{c.Width, c.Height}, "%d", asked)
	}
	for _, bad := range []int{-1, 1, 52, qr.MaxSize + 1, 1 << 40} {
		_, err := qr.PNG(activation, bad)
		require.ErrorIs(t, err, qr.ErrSize)
		require.Equal(t, fault.Invalid, fault.KindOf(err))
	}
}

// Level M up to 450 bytes; a longer text is level L, up to what version 40 holds.
func TestLengths(t *testing.T) {
	t.Parallel()
	for n, modules := range map[int]int{450: 81, 451: 17 + 4*14, 458: 17 + 4*14, 2953: 177} {
		doc, err := qr.SVG(strings.Repeat("x", n))
		require.NoError(t, err)
		side := strconv.Itoa(modules + 8)
		require.Contains(t, string(doc), `viewBox="0 0 `+side+` `+side+`"`, "%d", n)
	}
	for _, bad := range []string{"", strings.Repeat("7", qr.MaxText+1)} {
		_, err := qr.SVG(bad)
		require.ErrorIs(t, err, qr.ErrText)
		_, err = qr.PNG(bad, 0)
		require.ErrorIs(t, err, qr.ErrText)
	}
	_, err := qr.PNG("secret code", 20)
	require.ErrorIs(t, err, qr.ErrSize)
	require.NotContains(t, err.Error(), "secret")
}

func BenchmarkPNG(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := qr.PNG(activation, 0); err != nil {
			b.Fatal(err)
		}
	}
}

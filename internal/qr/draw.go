package qr

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"strconv"
	"strings"
)

// Bounds of PNG's size in pixels. The largest picture has one bit a pixel, 512
// kB before compression.
const (
	DefaultSize = 512
	MaxSize     = 2048
)

// PNG draws text as a square black and white picture. size is the longest side
// in pixels, 0 for DefaultSize: modules are whole pixels, since scaled ones blur,
// so that the picture is the largest that fits. Errors: ErrText; ErrSize also
// when a module would be less than a pixel.
func PNG(text string, size int) ([]byte, error) {
	if size == 0 {
		size = DefaultSize
	}
	if size < 0 || size > MaxSize {
		return nil, fmt.Errorf("qr: %w: %d pixels", ErrSize, size)
	}
	m, err := encode(text)
	if err != nil {
		return nil, err
	}
	scale := size / (m.size + 2*quiet)
	if scale == 0 {
		return nil, fmt.Errorf("qr: %w: %d pixels for %d modules", ErrSize, size, m.size+2*quiet)
	}
	side := scale * (m.size + 2*quiet)
	img := image.NewPaletted(image.Rect(0, 0, side, side), color.Palette{color.White, color.Black})
	for y := range m.size {
		row := img.Pix[(y+quiet)*scale*img.Stride:]
		for x := range m.size {
			if m.at(x, y) {
				for k := range scale {
					row[(x+quiet)*scale+k] = 1
				}
			}
		}
		for k := 1; k < scale; k++ {
			copy(row[k*img.Stride:(k+1)*img.Stride], row[:img.Stride])
		}
	}
	var out bytes.Buffer
	if err := png.Encode(&out, img); err != nil {
		return nil, fmt.Errorf("qr: %w", err)
	}
	return out.Bytes(), nil
}

// SVG draws text as one path, one unit a module, that scales to any size. The
// document holds no script, style or reference, and nothing of the text itself.
func SVG(text string) ([]byte, error) {
	m, err := encode(text)
	if err != nil {
		return nil, err
	}
	side := strconv.Itoa(m.size + 2*quiet)
	var b strings.Builder
	b.WriteString(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ` + side + ` ` + side + `" shape-rendering="crispEdges">` +
		`<path fill="#fff" d="M0 0h` + side + `v` + side + `H0z"/><path d="`)
	for y := range m.size {
		for x := 0; x < m.size; x++ {
			if !m.at(x, y) {
				continue
			}
			run := 1 // black modules in a row are one rectangle
			for x+run < m.size && m.at(x+run, y) {
				run++
			}
			fmt.Fprintf(&b, "M%d %dh%dv1h-%dz", x+quiet, y+quiet, run, run)
			x += run
		}
	}
	b.WriteString(`"/></svg>` + "\n")
	return []byte(b.String()), nil
}

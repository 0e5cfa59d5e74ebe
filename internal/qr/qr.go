package qr

import (
	"fmt"

	"rsc.io/qr/coding"

	"github.com/signet-hsm/signet/fault"
)

// MaxText is the longest text in bytes: version 40 at level L.
const MaxText = 2953

// quiet is the width of the empty border, in modules on each side.
const quiet = 4

// maxM is the largest version drawn with level M: 81 modules, 450 bytes.
const maxM = 16

var (
	// ErrText is an empty text or one of more than MaxText bytes.
	ErrText = fault.New(fault.Invalid, "QR_TEXT", "the text does not fit a QR code")
	// ErrSize is a picture that can not be drawn or would be too large.
	ErrSize = fault.New(fault.Invalid, "QR_SIZE", "the size of the QR code is not valid")
)

// matrix is the code without its quiet zone.
type matrix struct {
	size  int
	black []bool // size rows of size modules
}

func (m *matrix) at(x, y int) bool { return m.black[y*m.size+x] }

// encode picks level, version and mask.
func encode(text string) (*matrix, error) {
	if text == "" || len(text) > MaxText {
		return nil, fmt.Errorf("qr: %w: %d bytes", ErrText, len(text))
	}
	content := densest(text)
	version, level := fit(content, coding.M), coding.M
	if version > maxM {
		version, level = fit(content, coding.L), coding.L
	}
	var best *matrix
	least := 0
	for mask := range coding.Mask(8) {
		plan, err := coding.NewPlan(version, level, mask)
		if err != nil {
			return nil, fmt.Errorf("qr: %w", err)
		}
		code, err := plan.Encode(content)
		if err != nil {
			return nil, fmt.Errorf("qr: %w", err)
		}
		m := &matrix{size: code.Size, black: make([]bool, code.Size*code.Size)}
		for i := range m.black {
			m.black[i] = code.Black(i%m.size, i/m.size)
		}
		if p := m.penalty(); best == nil || p < least {
			best, least = m, p
		}
	}
	return best, nil
}

// densest is the encoding with the fewest bits. Segments are not mixed: our
// texts are Base64 for the most part.
func densest(text string) coding.Encoding {
	switch {
	case coding.Num(text).Check() == nil:
		return coding.Num(text)
	case coding.Alpha(text).Check() == nil:
		return coding.Alpha(text)
	}
	return coding.String(text)
}

// fit is the smallest version that holds e, or one above the largest.
func fit(e coding.Encoding, l coding.Level) coding.Version {
	for v := coding.Version(coding.MinVersion); v <= coding.MaxVersion; v++ {
		if e.Bits(v) <= v.DataBytes(l)*8 {
			return v
		}
	}
	return coding.MaxVersion + 1
}

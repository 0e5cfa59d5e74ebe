package operation

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Bounds of operation data.
const (
	MaxData   = 2048 // bytes; with texts and signature it still fits a QR code
	MaxFields = 5    // after the header, as version A has it
)

// Data is operation data taken apart: what the person is shown and the device
// signs, as
//
//	A1*A100CZK*Q238400856/0300**D20170629*NUtility Bill Payment - 05/2017
//
// that is a version letter and a template number, then fields between asterisks.
type Data struct {
	Version  byte // 'A' to 'Z'
	Template int  // 0 generic, 1 payment, 2 login; 0 to 99
	Fields   []Field
}

// Field is one field of operation data. The zero value is an empty field, which
// only keeps the place of an optional one.
type Field struct {
	Type  byte   // 'A' to 'Z', see the Field constants; 0: empty field
	Value string // without the type and without escapes
}

// The types that are known; a phone shows others as text, and so do we.
const (
	FieldAmount    = 'A' // decimal and ISO 4217 code: 100.50CZK
	FieldIBAN      = 'I' // IBAN, or IBAN,BIC
	FieldAccount   = 'Q' // account in any other form
	FieldDate      = 'D' // YYYYMMDD
	FieldReference = 'R'
	FieldNote      = 'N'
	FieldText      = 'T'
)

// Amount splits the value of a FieldAmount.
func (f Field) Amount() (number, currency string) {
	n := len(f.Value) - 3
	return f.Value[:n], f.Value[n:]
}

// ParseData reads operation data by the grammar of version A, which is the only
// one. It is strict (a phone is not, but nothing else can be shown as it was
// meant): String gives back exactly what was read. The error is ErrData.
func ParseData(s string) (Data, error) {
	if len(s) > MaxData || !utf8.ValidString(s) {
		return Data{}, dataError("more than %d bytes, or not UTF-8", MaxData)
	}
	if i := strings.IndexFunc(s, isControl); i >= 0 {
		return Data{}, dataError("control character at byte %d", i)
	}
	header, rest, more := strings.Cut(s, "*")
	d, err := parseHeader(header)
	if err != nil {
		return Data{}, err
	}
	for more {
		if len(d.Fields) == MaxFields {
			return Data{}, dataError("more than %d fields", MaxFields)
		}
		var field string
		field, rest, more = cutField(rest)
		f, err := parseField(field)
		if err != nil {
			return Data{}, err
		}
		d.Fields = append(d.Fields, f)
	}
	return d, nil
}

func dataError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrData, fmt.Sprintf(format, args...))
}

func parseHeader(s string) (Data, error) {
	if len(s) < 2 || len(s) > 3 || !isUpper(s[0]) || len(s) == 3 && s[1] == '0' {
		return Data{}, dataError("the header must be a capital letter and a number of 0 to 99")
	}
	n := 0
	for _, c := range []byte(s[1:]) {
		if c < '0' || c > '9' {
			return Data{}, dataError("the header must be a capital letter and a number of 0 to 99")
		}
		n = n*10 + int(c-'0')
	}
	return Data{Version: s[0], Template: n}, nil
}

// cutField cuts at the first asterisk that is not escaped.
func cutField(s string) (field, rest string, more bool) {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '*':
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

func parseField(s string) (Field, error) {
	if s == "" {
		return Field{}, nil
	}
	if !isUpper(s[0]) {
		return Field{}, dataError("a field must begin with a capital letter")
	}
	value, err := unescape(s[1:])
	if err != nil {
		return Field{}, err
	}
	f := Field{Type: s[0], Value: value}
	switch {
	case f.Type == FieldAmount && !isAmount(value):
		return Field{}, dataError("an amount must be a decimal number and a currency code of three letters")
	case f.Type == FieldIBAN && !isIBAN(value):
		return Field{}, dataError("an IBAN must be capital letters and digits, with the BIC after a comma")
	case f.Type == FieldDate && !isDate(value):
		return Field{}, dataError("a date must be YYYYMMDD")
	}
	return f, nil
}

func isAmount(s string) bool {
	n := len(s) - 3
	if n < 1 || !isUpper(s[n]) || !isUpper(s[n+1]) || !isUpper(s[n+2]) {
		return false
	}
	whole, fraction, dot := strings.Cut(s[:n], ".")
	return isDigits(whole) && (!dot || isDigits(fraction))
}

func isIBAN(s string) bool {
	iban, bic, comma := strings.Cut(s, ",")
	return isUpperAlnum(iban) && (!comma || isUpperAlnum(bic))
}

func isDate(s string) bool {
	_, err := time.Parse("20060102", s)
	return err == nil && len(s) == 8
}

func isUpper(c byte) bool { return c >= 'A' && c <= 'Z' }

func isDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

func isUpperAlnum(s string) bool {
	return s != "" && strings.Trim(s, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}

// isControl reports what operation data never has, escaped or not; a line feed
// must have become its escape before.
func isControl(r rune) bool { return r < 0x20 }

// String is the text form; for a Data that ParseData made it is what was read.
func (d Data) String() string {
	b := append(make([]byte, 0, 64), d.Version)
	b = strconv.AppendInt(b, int64(d.Template), 10)
	for _, f := range d.Fields {
		b = append(b, '*')
		if f.Type != 0 {
			b = append(append(b, f.Type), escape(f.Value)...)
		}
	}
	return string(b)
}

var escaper = strings.NewReplacer(`\`, `\\`, `*`, `\*`, "\n", `\n`)

// escape writes a value so that it can not leave its field.
func escape(s string) string { return escaper.Replace(s) }

func unescape(s string) (string, error) {
	if strings.IndexByte(s, '\\') < 0 {
		return s, nil
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b = append(b, s[i])
			continue
		}
		i++
		switch {
		case i == len(s):
			return "", dataError("a backslash at the end of a field")
		case s[i] == 'n':
			b = append(b, '\n')
		case s[i] == '\\' || s[i] == '*':
			b = append(b, s[i])
		default:
			return "", dataError("unknown escape")
		}
	}
	return string(b), nil
}

package operation

// normalizeOTP brings the three forms in which a person may write an offline OTP
//
//	1234-5678-1234-5678    12345678-12345678    1234567812345678
//
// to the second. Everything else is ErrOTPForm, which nobody counts as an
// attempt: not a space, not another dash, not a digit of another script.
func normalizeOTP(s string) (string, error) {
	var shape string
	switch len(s) {
	case 19:
		shape = "dddd-dddd-dddd-dddd"
	case 17:
		shape = "dddddddd-dddddddd"
	case 16:
		shape = "dddddddddddddddd"
	default:
		return "", ErrOTPForm
	}
	digits := make([]byte, 0, 17)
	for i := range len(s) {
		if shape[i] == '-' {
			if s[i] != '-' {
				return "", ErrOTPForm
			}
			continue
		}
		if s[i] < '0' || s[i] > '9' {
			return "", ErrOTPForm
		}
		if len(digits) == 8 {
			digits = append(digits, '-')
		}
		digits = append(digits, s[i])
	}
	return string(digits), nil
}

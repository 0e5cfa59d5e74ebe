package otp

import "time"

// TOTP is a scheme whose counter is the time. The zero value is that of RFC 6238:
// SHA-1, 6 digits, 30 seconds.
type TOTP struct {
	Scheme
	Step time.Duration // whole seconds; 0 is 30 s
}

// Proximity is the TOTP of PowerAuth's proximity check.
var Proximity = TOTP{Scheme: Scheme{Hash: SHA256, Digits: 8}}

// At is the password of a moment.
func (t TOTP) At(key []byte, at time.Time) (string, error) {
	step, err := t.counter(at)
	if err != nil {
		return "", err
	}
	return t.HOTP(key, step)
}

// Verify looks for the time step of a password around a moment: the present one,
// then up to back steps before and ahead steps after it (0 for none). The step
// that matched is returned: remember it and refuse it, or an earlier one, the
// next time.
func (t TOTP) Verify(key []byte, at time.Time, back, ahead int, code string) (step uint64, ok bool, err error) {
	now, err := t.counter(at)
	if err != nil {
		return 0, false, err
	}
	try := func(step uint64) (bool, error) {
		want, err := t.HOTP(key, step)
		return err == nil && equal(want, code), err
	}
	for i := range uint64(max(back, ahead, 0)) + 1 {
		if int(i) <= back && i <= now {
			if ok, err := try(now - i); ok || err != nil {
				return now - i, ok, err
			}
		}
		if i > 0 && int(i) <= ahead {
			if ok, err := try(now + i); ok || err != nil {
				return now + i, ok, err
			}
		}
	}
	return 0, false, nil
}

func (t TOTP) counter(at time.Time) (uint64, error) {
	seconds := int64(30)
	if t.Step != 0 {
		seconds = int64(t.Step / time.Second)
	}
	if seconds <= 0 || t.Step%time.Second != 0 || at.Unix() < 0 {
		return 0, ErrTime
	}
	return uint64(at.Unix() / seconds), nil
}

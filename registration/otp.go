package registration

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"

	"github.com/signet-hsm/signet/fault"
)

// What a new hash costs: the second choice of RFC 9106 scaled to the 19 MiB and
// two passes that OWASP recommends; about 25 ms of one core.
const (
	otpTime, otpMemory, otpThreads = 2, 19 << 10, 1
	otpSalt, otpTag                = 16, 32
)

// Bounds of what a stored hash may demand: the row is ours, but a typo in an
// import must not take the machine down.
const maxOTPTime, maxOTPMemory = 16, 256 << 10

// hashOTP makes the PHC string of an OTP.
func (r *Registrar) hashOTP(ctx context.Context, otp string) (string, error) {
	salt := make([]byte, otpSalt)
	_, _ = rand.Read(salt)
	if err := r.hashSlot(ctx); err != nil {
		return "", err
	}
	tag := argon2.IDKey([]byte(otp), salt, otpTime, otpMemory, otpThreads, otpTag)
	<-r.hashing
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, otpMemory, otpTime, otpThreads,
		b64.EncodeToString(salt), b64.EncodeToString(tag)), nil
}

// checkOTP compares an OTP with a PHC string, with the cost that the string
// names. It reads argon2i too, which is what the reference server stores.
func (r *Registrar) checkOTP(ctx context.Context, phc, otp string) (bool, error) {
	h, err := parsePHC(phc)
	if err != nil {
		return false, err
	}
	if err := r.hashSlot(ctx); err != nil {
		return false, err
	}
	defer func() { <-r.hashing }()
	return subtle.ConstantTimeCompare(h.key([]byte(otp)), h.tag) == 1, nil
}

// hashSlot bounds the memory and the cores that OTPs take: one hash a core.
func (r *Registrar) hashSlot(ctx context.Context) error {
	select {
	case r.hashing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", fault.ErrUnavailable, context.Cause(ctx))
	}
}

type phcHash struct {
	mixed        bool // argon2id; else argon2i
	time, memory uint32
	threads      uint8
	salt, tag    []byte
}

func (h phcHash) key(password []byte) []byte {
	if h.mixed {
		return argon2.IDKey(password, h.salt, h.time, h.memory, h.threads, uint32(len(h.tag)))
	}
	return argon2.Key(password, h.salt, h.time, h.memory, h.threads, uint32(len(h.tag)))
}

// parsePHC reads $argon2id$v=19$m=19456,t=2,p=1$salt$tag. Its errors never hold
// the string.
func parsePHC(s string) (h phcHash, err error) {
	bad := fmt.Errorf("%w: otp hash", errStored)
	part := strings.Split(s, "$")
	if len(part) != 6 || part[0] != "" || part[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return phcHash{}, bad
	}
	switch part[1] {
	case "argon2id":
		h.mixed = true
	case "argon2i":
	default:
		return phcHash{}, bad
	}
	var end string // Sscanf stops early; this proves that nothing follows
	n, _ := fmt.Sscanf(part[3]+" .", "m=%d,t=%d,p=%d %s", &h.memory, &h.time, &h.threads, &end)
	if n != 4 || end != "." || h.time < 1 || h.time > maxOTPTime || h.memory > maxOTPMemory ||
		h.threads < 1 || h.memory < 8*uint32(h.threads) {
		return phcHash{}, bad
	}
	b64 := base64.RawStdEncoding.Strict()
	if h.salt, err = b64.DecodeString(part[4]); err != nil || len(h.salt) < 8 || len(h.salt) > 64 {
		return phcHash{}, bad
	}
	if h.tag, err = b64.DecodeString(part[5]); err != nil || len(h.tag) < 16 || len(h.tag) > 64 {
		return phcHash{}, bad
	}
	return h, nil
}

// otpVerdict is what an OTP means at a phase.
type otpVerdict uint8

const (
	otpSkip   otpVerdict = iota // none is due and none came
	otpGood                     // due, and right
	otpWrong                    // due, and wrong: an attempt is used up
	otpRefuse                   // due and missing, or not due and sent: refused, nothing is counted
)

// otpGuess is the OTP that one request sent. It remembers what it was compared
// with: a request that has to decide again pays for one hash only.
type otpGuess struct {
	text    string
	against string
	good    bool
}

// judgeOTP says what the OTP means at the phase that at names. One that is not due
// is refused even when none is configured: the reference accepts it then and
// skips the commit.
func (r *Registrar) judgeOTP(ctx context.Context, row *record, at OTPMode, g *otpGuess) (otpVerdict, error) {
	switch due := row.otpMode == at; {
	case !due && g.text == "":
		return otpSkip, nil
	case !due, g.text == "":
		return otpRefuse, nil
	case row.otpHash == nil:
		return otpRefuse, fmt.Errorf("%w: no otp hash", errStored)
	}
	if g.against != *row.otpHash {
		good, err := r.checkOTP(ctx, *row.otpHash, g.text)
		if err != nil {
			return otpRefuse, err
		}
		g.against, g.good = *row.otpHash, good
	}
	if g.good {
		return otpGood, nil
	}
	return otpWrong, nil
}

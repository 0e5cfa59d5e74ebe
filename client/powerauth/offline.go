package powerauth

import (
	"crypto/ecdh"
	"errors"
	"fmt"
	"strings"

	"github.com/signet-hsm/signet/signature"
)

// ErrOfflineQR: the scanned code is not a signed operation for this device.
var ErrOfflineQR = errors.New("powerauth: the code is not an operation for this device")

// Scanned is an operation as the camera saw it, its signature checked.
type Scanned struct {
	Offline
	Title   string
	Message string
	// Flags are letters: B biometry may sign, X flip the buttons, F warn of fraud, C
	// block during a call.
	Flags string
	// Personal: signed by the key of this activation; else for any device, by the
	// application's master key.
	Personal bool
}

// ScanOffline reads an offline operation from a QR code, checks who signed it and
// gives what SignOffline wants. Lines beyond the known ones are covered by the
// signature and ignored, as newer codes may have them.
func (d *Device) ScanOffline(code string) (Scanned, error) {
	a := d.current()
	if a == nil {
		return Scanned{}, ErrNotActive
	}
	line := strings.Split(code, "\n")
	if len(line) < 7 || line[0] == "" || line[len(line)-1] == "" {
		return Scanned{}, fmt.Errorf("%w: lines", ErrOfflineQR)
	}
	last := line[len(line)-1]
	s := Scanned{
		Offline: Offline{OperationID: line[0], Data: line[3]},
		Title:   unescape(line[1]), Message: unescape(line[2]), Flags: line[4],
	}
	var key *ecdh.PublicKey
	switch last[0] {
	case '0':
		key = d.master
	case '1':
		key, s.Personal = a.server, true
	default:
		return Scanned{}, fmt.Errorf("%w: key type", ErrOfflineQR)
	}
	der, err := signature.ParseBase64(last[1:])
	if err != nil || !signedBy(key, code[:len(code)-len(last)+1], der) {
		return Scanned{}, fmt.Errorf("%w: signature", ErrOfflineQR)
	}
	if err := fill(s.Nonce[:], line[len(line)-2]); err != nil {
		return Scanned{}, fmt.Errorf("%w: nonce", ErrOfflineQR)
	}
	if len(line) > 7 {
		s.TOTP = line[5]
	}
	return s, nil
}

// unescape reads the two escapes of title and message.
func unescape(s string) string { return strings.NewReplacer(`\\`, `\`, `\n`, "\n").Replace(s) }

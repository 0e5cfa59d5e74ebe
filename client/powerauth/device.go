package powerauth

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/signet-hsm/signet/signature"
)

// Config is what an app is built with.
type Config struct {
	BaseURL           string // of the server, without the trailing "/pa/v3"
	ApplicationKey    string // Base64 of 16 bytes
	ApplicationSecret string // Base64 of 16 bytes
	MasterPublicKey   string // Base64 of the application's P-256 point
	// Version goes into all headers and decides forms; 0 is 3.2.
	Version signature.Version
	HTTP    *http.Client     // nil is http.DefaultClient
	Now     func() time.Time // nil is time.Now
}

// Device is one app installation.
type Device struct {
	baseURL    string
	appKey     [16]byte
	secret     []byte // Base64 text, as it enters hashes
	master     *ecdh.PublicKey
	version    signature.Version
	http       *http.Client
	now        func() time.Time
	random     io.Reader
	mu         sync.Mutex // owns activation and temporary
	activation *activation
	temporary  map[signature.Scope]temporaryKey
}

// activation is what the device learnt and made when it was activated.
type activation struct {
	id      string
	private *ecdh.PrivateKey
	server  *ecdh.PublicKey
	keys    *signature.Keys
	counter signature.Counter
	used    uint64 // counters so far; the server counts the same
}

// Errors of a Device. Errors of the transport and *ServerError come beside them.
var (
	ErrConfig      = errors.New("powerauth: bad configuration")
	ErrActivated   = errors.New("powerauth: the device is activated already")
	ErrNotActive   = errors.New("powerauth: the device is not activated")
	ErrQRSignature = errors.New("powerauth: the activation code is not signed by the application's master key")
	ErrProtocol    = errors.New("powerauth: the server's answer breaks the protocol")
	ErrFactors     = errors.New("powerauth: no device signs with this set of factors")
	ErrState       = errors.New("powerauth: bad exported state")
	// ErrUnknown: the server's status blob is not for this device: the server does
	// not know the activation, or who answered is not the server.
	ErrUnknown = errors.New("powerauth: the status can not be read")
	// ErrCounter: server and device have lost each other's counter. No signature
	// will match again; the person has to activate anew.
	ErrCounter = errors.New("powerauth: the counter is out of reach")
)

// New makes a device that is not activated.
func New(c Config) (*Device, error) {
	d := &Device{
		baseURL: strings.TrimRight(c.BaseURL, "/"), secret: []byte(c.ApplicationSecret),
		version: c.Version, http: c.HTTP, now: c.Now, random: rand.Reader,
	}
	if u, err := url.Parse(c.BaseURL); err != nil || u.Host == "" {
		return nil, fmt.Errorf("%w: BaseURL", ErrConfig)
	}
	if err := fill(d.appKey[:], c.ApplicationKey); err != nil {
		return nil, fmt.Errorf("%w: ApplicationKey", ErrConfig)
	}
	if err := fill(make([]byte, 16), c.ApplicationSecret); err != nil {
		return nil, fmt.Errorf("%w: ApplicationSecret", ErrConfig)
	}
	var err error
	if d.master, err = parsePublic(c.MasterPublicKey); err != nil {
		return nil, fmt.Errorf("%w: MasterPublicKey", ErrConfig)
	}
	if d.version == 0 {
		d.version = signature.V32
	}
	if !d.version.Valid() {
		return nil, fmt.Errorf("%w: Version", ErrConfig)
	}
	if d.http == nil {
		d.http = http.DefaultClient
	}
	if d.now == nil {
		d.now = time.Now
	}
	return d, nil
}

// Format keeps every fmt verb from printing keys and secrets.
func (d *Device) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "powerauth.Device[redacted]") }

// ActivationID is the id the server gave, "" before activation.
func (d *Device) ActivationID() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.activation == nil {
		return ""
	}
	return d.activation.id
}

// Fingerprint is the number of 8 digits that the person compares with the one
// the server shows, "" before activation.
func (d *Device) Fingerprint() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.activation == nil {
		return ""
	}
	return signature.Fingerprint(d.activation.private.PublicKey(), d.activation.id, d.activation.server)
}

// signedByMaster checks an ECDSA signature of the application's master key.
func (d *Device) signedByMaster(data string, der []byte) bool { return signedBy(d.master, data, der) }

func signedBy(public *ecdh.PublicKey, data string, der []byte) bool {
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), public.Bytes())
	if err != nil {
		return false
	}
	digest := sha256.Sum256([]byte(data))
	return ecdsa.VerifyASN1(key, digest[:], der)
}

func fill(dst []byte, base64 string) error {
	b, err := signature.ParseBase64(base64)
	if err != nil {
		return err
	}
	if copy(dst, b) != len(dst) || len(b) != len(dst) {
		return signature.ErrBase64
	}
	return nil
}

func parsePublic(base64 string) (*ecdh.PublicKey, error) {
	b, err := signature.ParseBase64(base64)
	if err != nil {
		return nil, err
	}
	return signature.ParsePublicKey(b)
}

package powerauth

import (
	"encoding/json"
	"fmt"

	"github.com/signet-hsm/signet/signature"
)

// state is the exported form of an activation. devicePrivateKey makes it as
// valuable as the phone.
type state struct {
	ActivationID     string `json:"activationId"`
	DevicePrivateKey string `json:"devicePrivateKey"`
	ServerPublicKey  string `json:"serverPublicKey"`
	CtrData          string `json:"ctrData"`
	Counter          uint64 `json:"counter,omitempty"` // how many counters were used
}

// Export writes the activation as JSON, WITH THE PRIVATE KEY IN CLEAR. Two
// devices that go on from one state break each other's counter.
func (d *Device) Export() ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	a := d.activation
	if a == nil {
		return nil, ErrNotActive
	}
	return json.Marshal(state{
		ActivationID:     a.id,
		DevicePrivateKey: signature.EncodeBase64(signature.MarshalPrivateKey(a.private)),
		ServerPublicKey:  signature.EncodeBase64(a.server.Bytes()),
		CtrData:          signature.EncodeBase64(a.counter[:]),
		Counter:          a.used,
	})
}

// Import makes an activated device from a configuration and exported state.
func Import(c Config, exported []byte) (*Device, error) {
	d, err := New(c)
	if err != nil {
		return nil, err
	}
	var s state
	if err := json.Unmarshal(exported, &s); err != nil {
		return nil, ErrState // the cause may quote the key
	}
	b, err := signature.ParseBase64(s.DevicePrivateKey)
	if err != nil {
		return nil, fmt.Errorf("%w: device key", ErrState)
	}
	private, err := signature.ParsePrivateKey(b)
	clear(b)
	if err != nil {
		return nil, fmt.Errorf("%w: device key", ErrState)
	}
	if d.activation, err = newActivation(s.ActivationID, private, s.ServerPublicKey, s.CtrData); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrState, err)
	}
	d.activation.used = s.Counter
	return d, nil
}

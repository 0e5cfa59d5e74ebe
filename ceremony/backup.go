package ceremony

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/signet-hsm/signet/ceremony/custody"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/secret"
)

// Backup says that a new key is to have one, and who can open it together. A key
// made without can not be given one later: no key on the token is extractable.
type Backup struct {
	Custody `yaml:",inline"`
}

// Backed is the file of a backup. It is public: the key in it is wrapped, and the
// wrapping key is its custodians'.
type Backed struct {
	Version    int             `json:"version"`
	Label      string          `json:"label"`
	ID         string          `json:"id"`
	Algorithm  hsm.Algorithm   `json:"algorithm"`
	SPKI       []byte          `json:"spki,omitempty"` // SubjectPublicKeyInfo; none for secret keys
	Wrapped    []byte          `json:"wrapped"`        // AES key wrap with padding (RFC 5649)
	WrapKey    json.RawMessage `json:"wrapKey"`        // a custody.Sealed
	SPKISHA256 string          `json:"spkiSha256,omitempty"`
}

func backupFile(ref hsm.Ref) string {
	return "backup-" + strings.ReplaceAll(strings.TrimPrefix(ref.String(), "signet/1/"), "/", "-") + ".json"
}

func (c *checker) backup(ref hsm.Ref, b *Backup) error {
	if b == nil {
		return nil
	}
	if err := c.custody("backup", &b.Custody); err != nil {
		return err
	}
	c.backed[ref.String()] = true
	return c.file(backupFile(ref))
}

// generateBacked makes a key and its backup, which is written before anything is
// done with the key.
func (w *work) generateBacked(ref hsm.Ref, alg hsm.Algorithm, id [16]byte, b *Backup) (hsm.KeyInfo, error) {
	officer, err := w.device.token.Officer()
	if err != nil {
		return hsm.KeyInfo{}, err
	}
	raw := make([]byte, hsm.WrapKeyLen)
	if _, err := rand.Read(raw); err != nil {
		return hsm.KeyInfo{}, err
	}
	own := make([]byte, hsm.WrapKeyLen) // neither this machine's generator nor the token's is enough to know it
	if err := w.device.token.Random(w.ctx, own); err != nil {
		return hsm.KeyInfo{}, err
	}
	for i := range raw {
		raw[i] ^= own[i]
	}
	clear(own)
	wrapKey := secret.New(raw)
	defer wrapKey.Wipe()
	sealed, content, err := w.seal("wrapping key of the backup of "+ref.String(), wrapKey, &b.Custody)
	if err != nil {
		return hsm.KeyInfo{}, err
	}
	made, wrapped, err := officer.GenerateBacked(w.ctx, ref, alg, id, wrapKey)
	if err != nil {
		return hsm.KeyInfo{}, err
	}
	file := Backed{Version: 1, Label: ref.String(), ID: hex.EncodeToString(id[:]), Algorithm: alg, Wrapped: wrapped, WrapKey: json.RawMessage(content)}
	if made.Public != nil {
		if file.SPKI, _, err = spkiOf(made.Public); err != nil {
			return made, err
		}
		sum := sha256.Sum256(file.SPKI)
		file.SPKISHA256 = hex.EncodeToString(sum[:])
	}
	text, err := json.MarshalIndent(file, "", " ")
	if err != nil {
		return made, err
	}
	if err := w.write(backupFile(ref), append(text, '\n')); err != nil {
		return made, err
	}
	return made, w.signOff(ref.String(), sealed, content)
}

// seal shares a secret among custodians of the plan.
func (w *work) seal(purpose string, s secret.Bytes, k *Custody) (*custody.Sealed, []byte, error) {
	people, err := k.people(w.plan)
	if err != nil {
		return nil, nil, err
	}
	sealed, err := custody.Seal(purpose, s, k.Threshold, people)
	if err != nil {
		return nil, nil, err
	}
	content, err := sealed.Marshal()
	return sealed, content, err
}

// signOffText is what a custodian signs: that the share in the file with this hash
// is theirs, and verified.
func signOffText(name, purpose, fileHash string) []byte {
	return []byte("signet ceremony sign-off 1\n" + name + "\n" + purpose + "\n" + fileHash + "\n")
}

// signOff has each custodian open their own share, verify it and sign for it.
func (w *work) signOff(name string, sealed *custody.Sealed, content []byte) error {
	sum := sha256.Sum256(content)
	hash := hex.EncodeToString(sum[:])
	for i, who := range sealed.Custodians {
		key := w.person(who)
		if key == nil {
			return fmt.Errorf("%w: the key of %s is not here", ErrPeople, who)
		}
		if err := sealed.Check(key); err != nil {
			return err
		}
		if err := w.tell(eventSignOff, map[string]any{
			"name": name, "purpose": sealed.Purpose, "custodian": who, "share": i + 1, "threshold": sealed.Threshold, "of": len(sealed.Custodians),
			"sealedSha256": hash, "verified": true, "signature": key.Sign(signOffText(who, sealed.Purpose, hash)),
		}); err != nil {
			return err
		}
	}
	return nil
}

func (w *work) person(name string) *custody.Key {
	for _, k := range w.people {
		if k.Name == name {
			return k
		}
	}
	return nil
}

// ParseBackup reads the file of a backup.
func ParseBackup(content []byte) (*Backed, error) {
	var b Backed
	d := json.NewDecoder(bytes.NewReader(content))
	d.DisallowUnknownFields()
	if err := d.Decode(&b); err != nil || len(content) > 1<<20 || b.Version != 1 {
		return nil, fmt.Errorf("%w: not a backup", ErrBackup)
	}
	if _, err := b.key(); err != nil {
		return nil, err
	}
	return &b, nil
}

// key is the description of the key as the file has it.
func (b *Backed) key() (hsm.KeyInfo, error) {
	ref, err := hsm.ParseRef(b.Label)
	id, bad := hex.DecodeString(b.ID)
	if err != nil || bad != nil || len(id) != 16 || !hsm.Allows(ref.Role, b.Algorithm) {
		return hsm.KeyInfo{}, fmt.Errorf("%w: label, id or algorithm", ErrBackup)
	}
	k := hsm.KeyInfo{Ref: ref, ID: [16]byte(id), Algorithm: b.Algorithm}
	if b.SPKI != nil {
		sum := sha256.Sum256(b.SPKI)
		if k.Public, err = x509.ParsePKIXPublicKey(b.SPKI); err != nil || hex.EncodeToString(sum[:]) != b.SPKISHA256 {
			return hsm.KeyInfo{}, fmt.Errorf("%w: public key", ErrBackup)
		}
	}
	return k, nil
}

// sealed is the wrapping key as custody wrote it: within the file it is indented
// deeper.
func (b *Backed) sealed() (*custody.Sealed, []byte, error) {
	var flat, content bytes.Buffer
	if err := json.Compact(&flat, b.WrapKey); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrBackup, err)
	}
	if err := json.Indent(&content, flat.Bytes(), "", " "); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrBackup, err)
	}
	content.WriteByte('\n')
	sealed, err := custody.Parse(content.Bytes())
	return sealed, content.Bytes(), err
}

// signOffBackup has the sign-offs made that an interruption has cut off.
func (w *work) signOffBackup(ref hsm.Ref) error {
	text, err := w.dir.read(backupFile(ref))
	if err != nil {
		return err
	}
	file, err := ParseBackup(text)
	if err != nil {
		return err
	}
	sealed, content, err := file.sealed()
	if err != nil {
		return err
	}
	return w.signOff(ref.String(), sealed, content)
}

// restore puts the key on a token with the custodians' shares.
func (b *Backed) restore(ctx context.Context, token *hsm.Token, keys []*custody.Key) (hsm.KeyInfo, error) {
	k, err := b.key()
	if err != nil {
		return k, err
	}
	sealed, _, err := b.sealed()
	if err != nil {
		return k, err
	}
	wrapKey, err := sealed.Open(keys)
	if err != nil {
		return k, err
	}
	defer wrapKey.Wipe()
	officer, err := token.Officer()
	if err != nil {
		return k, err
	}
	return officer.Restore(ctx, k, wrapKey, b.Wrapped)
}

// VerifyBackup restores a key on a second token, where nothing has its label or
// id, has it sign for the public key of the original, and destroys it there.
func VerifyBackup(ctx context.Context, second *hsm.Token, b *Backed, keys []*custody.Key) (hsm.KeyInfo, error) {
	k, err := b.restore(ctx, second, keys)
	if err != nil {
		return k, fmt.Errorf("ceremony: %w", err)
	}
	if err := second.Destroy(ctx, k.Ref); err != nil {
		return k, fmt.Errorf("ceremony: %w: the restored key stays on the second token: %w", ErrBackup, err)
	}
	return k, nil
}

// BackupVerify restores the backup of a key of this plan on the second token.
type BackupVerify struct {
	KeyRef `yaml:",inline"`
}

func (b *BackupVerify) check(c *checker) error {
	if !c.backed[b.ref().String()] {
		return fmt.Errorf("no earlier step makes %s with a backup; verify an older one with `ceremony backup verify`", b.ref())
	}
	return nil
}

// look has nothing to ask the token: preflight has seen to it that there is a second.
func (b *BackupVerify) look(context.Context, *hsm.Token, *work) error { return nil }

func (b *BackupVerify) do(w *work) error {
	if w.device == nil {
		return nil
	}
	name := backupFile(b.ref())
	return w.remembered(eventBackupVerified, name, func() (map[string]any, error) {
		content, err := w.dir.read(name)
		if err != nil {
			return nil, err
		}
		file, err := ParseBackup(content)
		if err != nil {
			return nil, err
		}
		k, err := VerifyBackup(w.ctx, w.device.second, file, w.people)
		if err != nil {
			return nil, err
		}
		info, err := w.device.second.Info(w.ctx)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(content)
		return map[string]any{
			"file": name, "sha256": hex.EncodeToString(sum[:]), "label": k.Ref.String(), "spkiSha256": file.SPKISHA256,
			"secondToken": info, "restored": "signed for the public key of the original, then destroyed",
		}, nil
	}, nil)
}

// Restore puts a key back for good, from the backup file of an earlier ceremony.
type Restore struct {
	Backup string `yaml:"backup" json:"backup"` // the content of the file
}

func (r *Restore) check(c *checker) error {
	file, err := ParseBackup([]byte(r.Backup))
	if err != nil {
		return err
	}
	k, err := file.key()
	if err != nil {
		return err
	}
	return c.label(k.Ref)
}

func (r *Restore) look(ctx context.Context, token *hsm.Token, w *work) error {
	file, err := ParseBackup([]byte(r.Backup))
	if err != nil {
		return err
	}
	k, err := file.key()
	if err != nil || w.rehearsal() {
		return err
	}
	return labelFree(ctx, token, k.Ref)
}

func (r *Restore) do(w *work) error {
	if w.device == nil || w.rehearsal() {
		return nil // the shares are not here
	}
	file, err := ParseBackup([]byte(r.Backup))
	if err != nil {
		return err
	}
	if w.recalled(eventKey, file.Label) != nil {
		return nil
	}
	k, err := file.key()
	if err != nil {
		return err
	}
	if w.recalled(eventKeyIntent, file.Label) != nil {
		switch found, err := w.device.token.Lookup(w.ctx, k.Ref); {
		case err == nil && found.ID == k.ID:
			return w.tellKey(found, true)
		case !errors.Is(err, hsm.ErrKeyNotFound):
			return err
		}
	} else if err := w.tell(eventKeyIntent, map[string]any{"name": file.Label, "label": file.Label, "id": file.ID, "algorithm": file.Algorithm, "restored": true}); err != nil {
		return err
	}
	if k, err = file.restore(w.ctx, w.device.token, w.people); err != nil {
		return err
	}
	return w.tellKey(k, false)
}

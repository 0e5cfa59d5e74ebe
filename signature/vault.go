package signature

// EncryptedVaultKey is what a successful vault unlock answers: the vault key
// under the transport key (AES-CBC, PKCS#7, zero IV), 32 bytes.
func (k *Keys) EncryptedVaultKey() []byte {
	var iv [16]byte
	return encryptCBC(&k.transport, &iv, k.vault[:])
}

// DecryptVaultKey is the client's side. The protocol gives it no MAC of its own:
// it travels inside an envelope.
func (k *Keys) DecryptVaultKey(encrypted []byte) (key [16]byte, err error) {
	var iv [16]byte
	plain, ok := decryptCBC(&k.transport, &iv, encrypted)
	if !ok || len(plain) != len(key) {
		return key, ErrVaultKey
	}
	return [16]byte(plain), nil
}

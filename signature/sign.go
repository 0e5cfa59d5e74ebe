package signature

// Sign computes the online signature of a request in the form of the version.
// The signer must step the counter after every call, even if the request is
// never sent. An invalid version or set of factors gives an unmatchable value.
func (k *Keys) Sign(v Version, f Factor, req Request, ctr Counter) Signature {
	return k.sign(Signature{format: v.Format(), digits: OnlineDigits}, f, req, ctr)
}

// SignOffline computes a decimal signature with components of 4 to 8 digits;
// req.Secret should be OfflineSecret.
func (k *Keys) SignOffline(digits int, f Factor, req Request, ctr Counter) (Signature, error) {
	if digits < MinDigits || digits > MaxDigits {
		return Signature{}, ErrDigits
	}
	return k.sign(Signature{format: Decimal, digits: uint8(digits)}, f, req, ctr), nil
}

func (k *Keys) sign(form Signature, f Factor, req Request, ctr Counter) Signature {
	if form.format == Unmatchable || !f.Valid() {
		return Signature{}
	}
	w := getWork()
	defer w.put()
	w.data = AppendBaseString(w.data[:blockSize], req)
	return k.signData(w, form, f, ctr)
}

func (k *Keys) signData(w *work, form Signature, f Factor, ctr Counter) Signature {
	w.got = form
	w.got.components = uint8(f.Count())
	if form.format == Base64 {
		w.got.digits = 0
	}
	k.compute(w, f, &ctr)
	return w.got
}

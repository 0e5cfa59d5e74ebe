package issuance

import (
	"crypto/ed25519"
	"fmt"
	"math/big"
	"slices"
	"sync"
)

// checkEd25519 refuses what is no public key though it has the length: values
// that are no point of the curve or not in canonical form (RFC 8032 section
// 5.1.3), and the points of small order, under which anybody can sign anything.
func checkEd25519(k ed25519.PublicKey) error {
	if len(k) != ed25519.PublicKeySize {
		return fmt.Errorf("%w: Ed25519 length", ErrKeyAlgorithm)
	}
	c := edwards25519()
	le := slices.Clone(k)
	le[31] &= 0x7f
	slices.Reverse(le)
	y := new(big.Int).SetBytes(le)
	if y.Cmp(c.p) >= 0 {
		return fmt.Errorf("%w: Ed25519 key is not canonical", ErrWeakKey)
	}
	if slices.ContainsFunc(c.smallOrder, func(s *big.Int) bool { return s.Cmp(y) == 0 }) {
		return fmt.Errorf("%w: Ed25519 point of small order", ErrWeakKey)
	}
	// -x^2 + y^2 = 1 + d x^2 y^2: x exists when (y^2-1)(d y^2+1) is a square. A point
	// with x = 0 is of small order, so the sign bit can be left out.
	y2 := new(big.Int).Mul(y, y)
	u := new(big.Int).Sub(y2, c.one)
	v := y2.Mul(y2, c.d)
	v.Add(v, c.one)
	u.Mul(u, v)
	if big.Jacobi(u.Mod(u, c.p), c.p) != 1 {
		return fmt.Errorf("%w: Ed25519 key is no point of the curve", ErrWeakKey)
	}
	return nil
}

type edwardsCurve struct {
	p, d, one  *big.Int
	smallOrder []*big.Int // y of the eight points: order 1, 2, 4 and (twice) 8
}

var edwards25519 = sync.OnceValue(func() *edwardsCurve {
	number := func(s string) *big.Int {
		n, _ := new(big.Int).SetString(s, 16)
		return n
	}
	c := &edwardsCurve{
		p:   number("7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffed"),
		d:   number("52036cee2b6ffe738cc740797779e89800700a4d4141d8ab75eb4dca135978a3"),
		one: big.NewInt(1),
	}
	c.smallOrder = []*big.Int{
		c.one, new(big.Int).Sub(c.p, c.one), new(big.Int),
		number("05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826"),
		number("7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7"),
	}
	return c
})

package issuance

import (
	"crypto/rsa"
	"fmt"
	"math/big"
	"sync"
)

// checkRSA refuses RSA keys that are too small or that fall to attacks which
// cost seconds: tiny factors, close primes (Fermat), and the generator of
// CVE-2017-15361 (ROCA), whose keys came out of certified hardware.
func checkRSA(k *rsa.PublicKey) error {
	bits := k.N.BitLen()
	switch {
	case bits < minRSABits || bits > maxRSABits || bits%8 != 0:
		return fmt.Errorf("%w: RSA of %d bits", ErrKeyAlgorithm, bits)
	case k.E < minExponent || k.E&1 == 0:
		return fmt.Errorf("%w: exponent", ErrWeakKey)
	case hasSmallFactor(k.N):
		return fmt.Errorf("%w: small factor", ErrWeakKey)
	case hasROCAFingerprint(k.N):
		return fmt.Errorf("%w: ROCA", ErrWeakKey)
	case hasClosePrimes(k.N):
		return fmt.Errorf("%w: close primes", ErrWeakKey)
	}
	return nil
}

// smallPrimes is the product of the primes below 752, the bound that the CA/B
// baseline requirements ask for.
var smallPrimes = sync.OnceValue(func() *big.Int {
	product := big.NewInt(1)
	for n := int64(2); n < 752; n++ {
		if p := big.NewInt(n); p.ProbablyPrime(0) {
			product.Mul(product, p)
		}
	}
	return product
})

func hasSmallFactor(n *big.Int) bool {
	gcd := new(big.Int).GCD(nil, nil, n, smallPrimes())
	return gcd.Cmp(big.NewInt(1)) != 0
}

// rocaPrimes are the primes up to 167 in which 65537 generates a small part of
// the residues. The flawed generator makes primes k*M + (65537^a mod M), so that
// modulo each of these N lies in that part; for an honest key this happens once
// in 2^27.
var rocaPrimes = [...]uint64{11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157}

var rocaResidues = sync.OnceValue(func() [len(rocaPrimes)]map[uint64]bool {
	var sets [len(rocaPrimes)]map[uint64]bool
	for i, p := range rocaPrimes {
		sets[i] = map[uint64]bool{}
		for r := uint64(1); !sets[i][r]; r = r * 65537 % p {
			sets[i][r] = true
		}
	}
	return sets
})

func hasROCAFingerprint(n *big.Int) bool {
	sets := rocaResidues()
	var p, r big.Int
	for i, prime := range rocaPrimes {
		if !sets[i][r.Mod(n, p.SetUint64(prime)).Uint64()] {
			return false
		}
	}
	return true
}

// hasClosePrimes is Fermat's method: n = a*a - b*b with a just above the root.
func hasClosePrimes(n *big.Int) bool {
	a := new(big.Int).Sqrt(n)
	if new(big.Int).Mul(a, a).Cmp(n) != 0 {
		a.Add(a, big.NewInt(1))
	}
	// b2 = a*a - n, and (a+1)^2 - n = b2 + 2a + 1: no squaring in the loop.
	b2 := new(big.Int).Mul(a, a)
	b2.Sub(b2, n)
	step := new(big.Int).Lsh(a, 1)
	step.Add(step, big.NewInt(1))
	two := big.NewInt(2)
	for range fermatRounds {
		if isSquare(b2) {
			return true
		}
		b2.Add(b2, step)
		step.Add(step, two)
	}
	return false
}

func isSquare(n *big.Int) bool {
	// Squares end in 12 of the 64 six-bit patterns; the root is only taken then.
	if low := n.Uint64() & 63; squaresMod64>>low&1 == 0 {
		return false
	}
	r := new(big.Int).Sqrt(n)
	return r.Mul(r, r).Cmp(n) == 0
}

// squaresMod64 has bit i set when i is a square modulo 64.
const squaresMod64 = uint64(1<<0 | 1<<1 | 1<<4 | 1<<9 | 1<<16 | 1<<17 | 1<<25 | 1<<33 | 1<<36 | 1<<41 | 1<<49 | 1<<57)

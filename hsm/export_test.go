package hsm

import "path/filepath"

// Cryptoki lets the tests of this package wrap a module.
type Cryptoki = cryptoki

// Wrap makes the next load of the module at path go through f.
func Wrap(path string, f func(Cryptoki) Cryptoki) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		panic(err)
	}
	registry.Lock()
	defer registry.Unlock()
	if registry.wrap == nil {
		registry.wrap = map[string]func(cryptoki) cryptoki{}
	}
	registry.wrap[real] = f
}

// Loaded counts the modules that are loaded.
func Loaded() int {
	registry.Lock()
	defer registry.Unlock()
	return len(registry.modules)
}

// Anchor returns the session that keeps the login.
func (t *Token) Anchor() uint { return uint(t.engine.(*local).slot.anchor) }

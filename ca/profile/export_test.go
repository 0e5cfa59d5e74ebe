package profile

import "reflect"

// Fields names what can be written in a file.
func Fields() (out []string) {
	for f := range reflect.TypeFor[entry]().Fields() {
		out = append(out, f.Name)
	}
	return out
}

package main

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// envWriter writes KEY=value lines that a shell can source: no value that is
// written here has a character a shell would take for its own.
type envWriter struct {
	w   io.Writer
	err error
}

func (e *envWriter) line(key, value string) {
	if e.err != nil {
		return
	}
	if !sourceable(value) {
		e.err = fmt.Errorf("the value of %s can not stand in a file to source", key)
		return
	}
	_, e.err = fmt.Fprintf(e.w, "%s=%s\n", key, value)
}

// sourceable reports whether a shell takes value as it is.
func sourceable(value string) bool {
	return !strings.ContainsAny(value, " \t\r\n'\"`$\\;&|<>()*?[]#~!{}")
}

// readEnv reads what envWriter wrote; a missing file is empty.
func readEnv(path string) (map[string]string, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]string{}, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out := map[string]string{}
	for s := bufio.NewScanner(f); s.Scan(); {
		if key, value, ok := strings.Cut(s.Text(), "="); ok {
			out[key] = value
		}
	}
	return out, nil
}

func base64Text(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

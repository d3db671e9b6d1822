// Package configs is the file a technician writes and the strict reader of it.
//
//	a, err := configs.LoadAgent("/etc/coinop/agent.yaml", os.Environ())
//	if err != nil {
//		fmt.Fprintln(os.Stderr, err) // everything that is wrong, each with its place and what to write
//	}
//
// A value comes from the last of four layers that has it: the default, the file, the environment
// (COINOP_ and the key: COINOP_TIMEOUTS_WAIT), the flags. It promises:
//
//   - A file that loads says what was meant: an unknown key, a wrong type, a value out of range, a key
//     that stands twice are errors, and all of them are told at once.
//   - A block that may be missing can be removed, and the rest goes on.
//   - A value keeps its place, so that whoever finds later that it cannot be used (a currency nobody
//     knows, a port that is not there) says so as the reader would: Refuse.
//   - No secret is read from it: files name the paths of what is secret.
//
// It knows YAML and text, and none of our other packages: the commands turn it into what they need.
package configs

import (
	"embed"
	"errors"
	"io/fs"
	"os"
)

// Examples are files as a technician would type them: vending.yaml, kiosk.yaml, laundry.yaml, canteen.yaml, cloud.yaml.
//
//go:embed *.yaml
var Examples embed.FS

// maxFile is far above any file a person types; what is larger is the wrong file.
const maxFile = 256 << 10

// A Flag is a value from the command line, by the name it has there.
type Flag struct{ Name, Text string }

// LoadAgent reads an agent's file, with the environment ("NAME=value") and flags above it. The error is
// Errors. An empty path is an empty file: everything comes from the other layers.
func LoadAgent(path string, env []string, flags ...Flag) (Agent, error) {
	data, err := read(path)
	if err != nil {
		return Agent{}, err
	}
	return ParseAgent(path, data, env, flags...)
}

// LoadCloud is LoadAgent for the cloud's file.
func LoadCloud(path string, env []string, flags ...Flag) (Cloud, error) {
	data, err := read(path)
	if err != nil {
		return Cloud{}, err
	}
	return ParseCloud(path, data, env, flags...)
}

// ParseAgent is LoadAgent of text that was read already; name is what its errors call it.
func ParseAgent(name string, data []byte, env []string, flags ...Flag) (Agent, error) {
	var a Agent
	l := load(name, data, env, flags, &a)
	a.Origin = l.origin
	if l.clean() {
		l.add(a.check()...)
	}
	if err := l.err(); err != nil {
		return Agent{}, err
	}
	return a, nil
}

// ParseCloud is ParseAgent for the cloud's file.
func ParseCloud(name string, data []byte, env []string, flags ...Flag) (Cloud, error) {
	var c Cloud
	l := load(name, data, env, flags, &c)
	c.Origin = l.origin
	if l.clean() {
		l.add(c.check()...)
	}
	if err := l.err(); err != nil {
		return Cloud{}, err
	}
	return c, nil
}

func read(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	bad := func(what, instead string) error {
		return Errors{{Place: Place{Name: path}, What: what, Instead: instead}}
	}
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, bad("there is no such file", "check the path")
	case err != nil:
		return nil, bad(err.Error(), "check who may read it")
	case st.IsDir():
		return nil, bad("is a folder", "name the file in it")
	case st.Size() > maxFile:
		return nil, bad("is far too large for a configuration", "check the path")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, bad(err.Error(), "check who may read it")
	}
	return data, nil
}

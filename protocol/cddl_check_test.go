package protocol_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"

	"coinop/protocol/seal"

	"github.com/fxamacker/cbor/v2"
)

// spec is a CDDL document, of the part of the language that ours uses: rules, tstr, bytes, bool, int, uint,
// nil, any, .size, ranges, [* t], [a, b], {? key: t}, alternatives, tags and names.
type spec map[string]shape

// shape checks an item.
type shape func(spec, any) error

type cddlParser struct{ tokens []string }

func parseCDDL(text string) (spec, error) {
	var b strings.Builder
	for line := range strings.Lines(text) {
		code, _, _ := strings.Cut(line, ";")
		for _, mark := range []string{"[", "]", "{", "}", "(", ")", ",", "=", "?", "*", "/"} {
			code = strings.ReplaceAll(code, mark, " "+mark+" ")
		}
		b.WriteString(code + " ")
	}
	p := &cddlParser{strings.Fields(b.String())}
	s := spec{}
	for len(p.tokens) > 0 {
		name := p.next()
		if !p.take("=") {
			return nil, fmt.Errorf("%s: no =", name)
		}
		if s[name] != nil {
			return nil, fmt.Errorf("%s: twice", name)
		}
		t, err := p.alternatives()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		s[name] = t
	}
	return s, nil
}

func (p *cddlParser) next() string {
	if len(p.tokens) == 0 {
		return ""
	}
	t := p.tokens[0]
	p.tokens = p.tokens[1:]
	return t
}

func (p *cddlParser) take(t string) bool {
	if len(p.tokens) > 0 && p.tokens[0] == t {
		p.tokens = p.tokens[1:]
		return true
	}
	return false
}

func (p *cddlParser) alternatives() (shape, error) {
	var all []shape
	for {
		t, err := p.one()
		if err != nil {
			return nil, err
		}
		if all = append(all, t); !p.take("/") {
			break
		}
	}
	if len(all) == 1 {
		return all[0], nil
	}
	return func(s spec, v any) error {
		var errs []error
		for _, t := range all {
			err := t(s, v)
			if err == nil {
				return nil
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	}, nil
}

func (p *cddlParser) one() (shape, error) {
	t := p.next()
	size := 0
	if p.take(".size") {
		n, err := strconv.Atoi(p.next())
		if err != nil {
			return nil, err
		}
		size = n
	}
	number, isTag := strings.CutPrefix(t, "#6.")
	from, to, isRange := strings.Cut(t, "..")
	switch {
	case t == "[":
		return p.array()
	case t == "{":
		return p.fields()
	case isTag:
		return p.tag(number)
	case isRange:
		low, err1 := strconv.ParseInt(from, 10, 64)
		high, err2 := strconv.ParseInt(to, 10, 64)
		return func(_ spec, v any) error {
			if n, ok := integer(v); !ok || n < low || n > high {
				return wrong(v, t)
			}
			return nil
		}, errors.Join(err1, err2)
	}
	return named(t, size), nil
}

func wrong(v any, want string) error { return fmt.Errorf("%T %v, want %s", v, v, want) }

func integer(v any) (int64, bool) {
	switch v := v.(type) {
	case uint64:
		return int64(v), v <= math.MaxInt64
	case int64:
		return v, true
	}
	return 0, false
}

func named(t string, size int) shape {
	return func(s spec, v any) error {
		ok := false
		switch t {
		case "any":
			ok = true
		case "tstr":
			_, ok = v.(string)
		case "bool":
			_, ok = v.(bool)
		case "nil":
			ok = v == nil
		case "int":
			_, ok = integer(v)
		case "uint":
			var n uint64
			n, ok = v.(uint64)
			ok = ok && (size == 0 || size == 8 || n < 1<<(8*size))
		case "bytes":
			var b []byte
			b, ok = v.([]byte)
			ok = ok && (size == 0 || len(b) == size)
		default:
			rule := s[t]
			if rule == nil {
				return fmt.Errorf("no rule %q", t)
			}
			return rule(s, v)
		}
		if !ok {
			return wrong(v, t)
		}
		return nil
	}
}

func (p *cddlParser) tag(number string) (shape, error) {
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil || !p.take("(") {
		return nil, fmt.Errorf("tag %q", number)
	}
	inner, err := p.alternatives()
	if err != nil || !p.take(")") {
		return nil, fmt.Errorf("in tag %q: %w", number, err)
	}
	return func(s spec, v any) error {
		t, ok := v.(cbor.Tag)
		if !ok || t.Number != n {
			return wrong(v, "tag "+number)
		}
		return inner(s, t.Content)
	}, nil
}

func (p *cddlParser) array() (shape, error) {
	if p.take("*") {
		each, err := p.alternatives()
		if err != nil || !p.take("]") {
			return nil, fmt.Errorf("array: %w", err)
		}
		return func(s spec, v any) error {
			a, ok := v.([]any)
			if !ok {
				return wrong(v, "array")
			}
			for _, e := range a {
				if err := each(s, e); err != nil {
					return err
				}
			}
			return nil
		}, nil
	}
	var all []shape
	for !p.take("]") {
		if strings.HasSuffix(p.tokens[0], ":") {
			p.next()
		}
		t, err := p.alternatives()
		if err != nil {
			return nil, err
		}
		all = append(all, t)
		p.take(",")
	}
	return func(s spec, v any) error {
		a, ok := v.([]any)
		if !ok || len(a) != len(all) {
			return wrong(v, fmt.Sprintf("array of %d", len(all)))
		}
		for i, e := range a {
			if err := all[i](s, e); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

func (p *cddlParser) fields() (shape, error) {
	type field struct {
		optional bool
		of       shape
	}
	all := map[int64]field{}
	for !p.take("}") {
		f := field{optional: p.take("?")}
		label, ok := strings.CutSuffix(p.next(), ":")
		key, err := strconv.ParseInt(label, 10, 64)
		if err != nil || !ok || all[key].of != nil {
			return nil, fmt.Errorf("key %q", label)
		}
		if f.of, err = p.alternatives(); err != nil {
			return nil, err
		}
		all[key] = f
		p.take(",")
	}
	return func(s spec, v any) error {
		m, ok := v.(map[any]any)
		if !ok {
			return wrong(v, "map")
		}
		found := 0
		for key, f := range all {
			var at any = key
			if key >= 0 {
				at = uint64(key)
			}
			e, there := m[at]
			if !there && !f.optional {
				return fmt.Errorf("key %d is missing", key)
			}
			if !there {
				continue
			}
			found++
			if err := f.of(s, e); err != nil {
				return fmt.Errorf("key %d: %w", key, err)
			}
		}
		if found != len(m) {
			return fmt.Errorf("%d keys that nobody knows", len(m)-found)
		}
		return nil
	}, nil
}

// check holds an encoded item against a rule.
func (s spec) check(rule string, b []byte) error {
	var v any
	if err := cbor.Unmarshal(b, &v); err != nil {
		return err
	}
	return named(rule, 0)(s, v)
}

// spoiled are messages one field of which is wrong: missing, of another type, or one that nobody knows.
func spoiled(t *testing.T, msg []byte) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	var m map[any]any
	if err := cbor.Unmarshal(msg, &m); err != nil {
		t.Fatal(err)
	}
	put := func(what string) {
		b, err := cbor.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		out[what] = b
	}
	m[uint64(1000)] = true
	put("a key that nobody knows")
	delete(m, uint64(1000))
	for key, v := range m {
		if _, raw := v.([]any); raw && (key == uint64(2) || key == uint64(15) || key == uint64(1)) {
			continue // may be anything
		}
		m[key] = 1.5
		put(fmt.Sprintf("a fraction at key %v", key))
		m[key] = v
	}
	return out
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func testSigner(t *testing.T) seal.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return seal.Signer{Key: key, KeyID: "beef"}
}

func testPublic(s seal.Signer) *ecdsa.PublicKey { return s.Key.Public().(*ecdsa.PublicKey) }

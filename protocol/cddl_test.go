package protocol_test

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode"

	"coinop/protocol"
	"coinop/protocol/seal"
)

const cddlFile = "../docs/protocol.cddl"

// What is no Go type of ours, or an envelope around one.
const cddlHead = `; What Coinop's agents and cloud say to each other and keep in journals, as CDDL (RFC 8610).
; Written by go test ./protocol -run TestCDDL -update from the Go types; do not edit.
;
; CBOR is core deterministic (RFC 8949 section 4.2): shortest lengths, sorted keys, nothing indefinite, no tags but
; the one of COSE. A message has at most 131,072 bytes. What is hashed is refused in any other encoding.
;
; coinop/v1/{device}/up/conn        conn
; coinop/v1/{device}/up/auth        encrypt0 of auth: 1 authorization-request, 2 outcome-copy
; coinop/v1/{device}/up/journal     journal: sign1 of batch
; coinop/v1/{device}/dn/auth        encrypt0 of auth: 3 received, 4 authorization-response, 5 announcement
; coinop/v1/{device}/dn/ack         encrypt0 of watermark
; coinop/v1/{device}/dn/checkpoint  sign1 of checkpoint
;
; The topic is the external data of each. A bytes of batch.10 is an encoded envelope, envelope.15 the record of its
; kind. Ask.14 is a sealed-box of a sealed-card with card-aad as AAD.

; COSE_Sign1 (RFC 9052 section 4.2), ES256; the ticket rides along unprotected.
sign1 = #6.18([bytes, {? -65537: bytes}, bytes, bytes])
; COSE_Encrypt0 (RFC 9052 section 5.2), A256GCM. Up it carries a ticket: sign1 of ticket; down the id of the channel.
encrypt0 = #6.16([bytes, {? 4: bytes, 5: bytes, ? -65537: bytes}, bytes])
; To the payment key, along a chain that an HPKE encapsulation (RFC 9180) opens: key id, encapsulation, place in
; the chain, A256GCM ciphertext. chain 0 = Export("coinop/v1/card chain", 32); key n = HMAC-SHA-256(chain n, 00),
; nonce zero; chain n+1 = HMAC-SHA-256(chain n, 01).
sealed-box = [tstr, bytes, uint .size 1, bytes]
`

// cddl writes rules for types, each once.
type cddl struct {
	out  strings.Builder
	done map[string]bool
	todo []reflect.Type
}

// ruleName is a type's name in the document: SaleID is sale-id, ID[saleTag] too.
func ruleName(t reflect.Type) string {
	name := t.Name()
	if tag, ok := strings.CutPrefix(name, "ID["); ok {
		name = strings.TrimSuffix(tag[strings.LastIndexByte(tag, '.')+1:], "Tag]") + "ID"
	}
	var b strings.Builder
	for i, r := range name {
		lower := i > 0 && unicode.IsLower(rune(name[i-1]))
		next := i > 0 && i+1 < len(name) && unicode.IsUpper(rune(name[i-1])) && unicode.IsLower(rune(name[i+1]))
		if unicode.IsUpper(r) && (lower || next) {
			b.WriteByte('-')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// plain is the type of a Go kind.
func plain(t reflect.Type) string {
	switch k := t.Kind(); k {
	case reflect.Bool:
		return "bool"
	case reflect.String:
		return "tstr"
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return fmt.Sprintf("uint .size %d", t.Size())
	case reflect.Int64:
		return "int"
	case reflect.Int8, reflect.Int16, reflect.Int32:
		most := int64(1) << (8*t.Size() - 1)
		return fmt.Sprintf("%d..%d", -most, most-1)
	case reflect.Array:
		return fmt.Sprintf("bytes .size %d", t.Len())
	}
	panic("no CDDL for " + t.String())
}

// of is how a type is referred to.
func (c *cddl) of(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[protocol.Raw]():
		return "any"
	case t.Kind() == reflect.Pointer:
		return c.of(t.Elem())
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		return "bytes"
	case t.Kind() == reflect.Slice:
		return "[* " + c.of(t.Elem()) + "]"
	case t.PkgPath() == "":
		return plain(t)
	}
	if name := ruleName(t); !c.done[name] {
		c.done[name] = true
		c.todo = append(c.todo, t)
	}
	return ruleName(t)
}

// rule writes one.
func (c *cddl) rule(t reflect.Type) {
	fmt.Fprintf(&c.out, "\n%s = ", ruleName(t))
	if t.Kind() != reflect.Struct {
		fmt.Fprintf(&c.out, "%s%s\n", plain(t), names(t))
		return
	}
	if f, ok := t.FieldByName("_"); ok && strings.Contains(f.Tag.Get("cbor"), "toarray") {
		c.out.WriteString("[")
		for i := 1; i < t.NumField(); i++ {
			if i > 1 {
				c.out.WriteString(", ")
			}
			fmt.Fprintf(&c.out, "%s: %s", strings.ToLower(t.Field(i).Name), c.of(t.Field(i).Type))
		}
		c.out.WriteString("]\n")
		return
	}
	c.out.WriteString("{\n")
	for i := range t.NumField() {
		f := t.Field(i)
		key, options, _ := strings.Cut(f.Tag.Get("cbor"), ",")
		if key == "" || !strings.Contains(options, "keyasint") {
			panic("no key: " + t.String() + "." + f.Name)
		}
		kind := c.of(f.Type)
		line := fmt.Sprintf("  %s: %s", key, kind)
		switch {
		case strings.Contains(options, "omit"):
			line = fmt.Sprintf("  ? %s: %s", key, kind)
		case f.Type.Kind() == reflect.Slice && f.Type != reflect.TypeFor[protocol.Raw](), f.Type.Kind() == reflect.Pointer:
			line += " / nil"
		}
		fmt.Fprintf(&c.out, "%s, ; %s\n", line, f.Name)
	}
	c.out.WriteString("}\n")
}

// names are the values of an enum, as a comment.
func names(t reflect.Type) string {
	if t.Kind() == reflect.Array || t.Kind() == reflect.String || !t.Implements(reflect.TypeFor[fmt.Stringer]()) {
		return ""
	}
	var out []string
	for n := range uint64(64) {
		v := reflect.New(t).Elem()
		if !v.CanUint() {
			return ""
		}
		v.SetUint(n)
		if name := v.Interface().(fmt.Stringer).String(); !strings.ContainsAny(name, "(?") && name != "" {
			out = append(out, fmt.Sprintf("%d %s", n, name))
		}
	}
	if len(out) == 0 {
		return ""
	}
	return " ; " + strings.Join(out, ", ")
}

// document is the whole of it.
func document() string {
	c := &cddl{done: map[string]bool{}}
	c.out.WriteString(cddlHead)
	all := protocol.Messages()
	keys := make([]string, 0, len(all))
	for name := range all {
		keys = append(keys, name)
	}
	slices.Sort(keys)
	var messages, records []reflect.Type
	for _, name := range keys {
		t := reflect.TypeOf(all[name]).Elem()
		if t.Implements(reflect.TypeFor[protocol.Body]()) {
			records = append(records, t)
		} else {
			messages = append(messages, t)
		}
	}
	for _, part := range []struct {
		title string
		types []reflect.Type
	}{{"Messages", append(messages, reflect.TypeFor[seal.Ticket]())}, {"Records", records}} {
		fmt.Fprintf(&c.out, "\n; %s\n", part.title)
		for _, t := range part.types {
			c.done[ruleName(t)] = true
		}
		for _, t := range part.types {
			c.rule(t)
		}
	}
	c.out.WriteString("\n; What they are made of\n")
	for len(c.todo) > 0 {
		t := c.todo[0]
		c.todo = c.todo[1:]
		c.rule(t)
	}
	return c.out.String()
}

func rewrite() bool { f := flag.Lookup("update"); return f != nil && f.Value.String() == "true" }

// The document is what the Go types say.
func TestCDDL(t *testing.T) {
	want := document()
	if rewrite() {
		if err := os.WriteFile(cddlFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(cddlFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != want {
		t.Errorf("%s is not what the types say; go test ./protocol -run TestCDDL -update, and read the difference", cddlFile)
	}
}

// Every golden message is what the document says, and what is not is found.
func TestGoldenConformsToCDDL(t *testing.T) {
	text, err := os.ReadFile(cddlFile)
	if err != nil {
		t.Fatal(err)
	}
	spec, err := parseCDDL(string(text))
	if err != nil {
		t.Fatal(err)
	}
	golden, err := os.ReadFile("testdata/golden.txt")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	all := protocol.Messages()
	for _, line := range strings.Split(string(golden), "\n") {
		name, text, ok := strings.Cut(line, " ")
		if !ok || name == "#" {
			continue
		}
		seen++
		rule := ruleName(reflect.TypeOf(all[name]).Elem())
		msg := unhex(t, text)
		if err := spec.check(rule, msg); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := spec.check(rule, protocol.MustEncode(reflect.New(reflect.TypeOf(all[name]).Elem()).Interface())); err != nil {
			t.Errorf("%s, all zero: %v", name, err)
		}
		for what, wrong := range spoiled(t, msg) {
			if err := spec.check(rule, wrong); err == nil {
				t.Errorf("%s with %s conforms", name, what)
			}
		}
	}
	if seen != len(all) {
		t.Errorf("%d golden messages of %d", seen, len(all))
	}
	checkSeals(t, spec)
}

// checkSeals holds what seals are against the rules that are written by hand.
func checkSeals(t *testing.T, spec spec) {
	key, err := seal.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	box, err := seal.NewCardSealer(key.Public()).Seal(nil, []byte("card"))
	if err != nil {
		t.Fatal(err)
	}
	if err := spec.check("sealed-box", box); err != nil {
		t.Error(err)
	}
	device := testSigner(t)
	ch, err := seal.NewChannel(device, seal.Ticket{Device: "m1", CertSerial: device.KeyID, Connection: 1}, key.Public())
	if err != nil {
		t.Fatal(err)
	}
	up, err := ch.Seal("topic", []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	signed, err := device.Sign("topic", []byte("x"), ch.Ticket())
	if err != nil {
		t.Fatal(err)
	}
	for rule, b := range map[string][]byte{"encrypt0": up, "sign1": signed} {
		if err := spec.check(rule, b); err != nil {
			t.Errorf("%s: %v", rule, err)
		}
	}
	parsed, err := seal.ParseSigned(ch.Ticket())
	if err != nil {
		t.Fatal(err)
	}
	plain, err := parsed.Verify("coinop/v1/ticket", testPublic(device))
	if err != nil {
		t.Fatal(err)
	}
	if err := spec.check("ticket", plain); err != nil {
		t.Error(err)
	}
}

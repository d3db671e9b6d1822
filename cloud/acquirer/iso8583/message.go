package iso8583

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
)

// Message is a message type and its data elements. Values are the characters on the line, but DE55
// (raw bytes) as they are; a value may be shorter than its fixed field, Pack pads it.
//
// It prints without the values of card fields.
type Message struct {
	MTI    string
	fields []element // by rising DE
}

type element struct {
	de    uint8
	value string
}

// NewMessage has no data elements yet.
func NewMessage(mti string) *Message { return &Message{MTI: mti, fields: make([]element, 0, 24)} }

// Set puts data element de, from 2 to 128; an empty value removes it.
func (m *Message) Set(de int, value string) {
	if de < 2 || de > 128 {
		panic(fmt.Sprintf("iso8583: no data element %d", de))
	}
	i, found := slices.BinarySearchFunc(m.fields, uint8(de), func(e element, de uint8) int { return int(e.de) - int(de) })
	switch {
	case found && value == "":
		m.fields = slices.Delete(m.fields, i, i+1)
	case found:
		m.fields[i].value = value
	case value != "":
		m.fields = slices.Insert(m.fields, i, element{uint8(de), value})
	}
}

// Get is the value of data element de, or "".
func (m *Message) Get(de int) string {
	for _, f := range m.fields {
		if int(f.de) == de {
			return f.value
		}
	}
	return ""
}

// Has reports whether de is there.
func (m *Message) Has(de int) bool { return m.Get(de) != "" }

// hidden are the fields that hold card data.
func hidden(de int) bool {
	switch de {
	case 2, 14, 34, 35, 36, 45, 52, 55, 62, 102, 103:
		return true
	}
	return false
}

// String lists the data elements, those of a card without their values.
func (m *Message) String() string {
	if m == nil {
		return "no message"
	}
	var b strings.Builder
	if validMTI(m.MTI) {
		b.WriteString(m.MTI)
	} else {
		b.WriteString("????")
	}
	for _, f := range m.fields {
		if hidden(int(f.de)) {
			fmt.Fprintf(&b, " %d=*", f.de)
		} else {
			fmt.Fprintf(&b, " %d=%s", f.de, f.value)
		}
	}
	return b.String()
}

// Format prints String under every verb.
func (m *Message) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(m.String())) }

// GoString is String.
func (m *Message) GoString() string { return m.String() }

// LogValue is String.
func (m *Message) LogValue() slog.Value { return slog.StringValue(m.String()) }

// MarshalText is String; there is no way back.
func (m *Message) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

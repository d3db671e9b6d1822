package hostsim

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"coinop/cloud/acquirer/dialects"
)

// message is a message type and its fields by number, as on the line; none is there that is empty.
type message struct {
	mti string
	f   *fields
}

type fields [129]string

var errParse = errors.New("hostsim: message cannot be read")

// dialect is the data file, read by a parser of our own: a walk over its fields by number.
type dialect [129]field

type field struct {
	Format string `json:"format"`
	Length string `json:"length"`
	Max    int    `json:"max"` // 0: there is no such field
}

var ascii87 = sync.OnceValue(func() *dialect {
	var file struct {
		Fields map[int]field `json:"fields"`
	}
	if err := json.Unmarshal(dialects.ASCII87, &file); err != nil {
		panic("hostsim: dialect: " + err.Error())
	}
	var d dialect
	for n, f := range file.Fields {
		d[n] = f
	}
	return &d
})

func (d *dialect) parse(frame []byte) (message, error) {
	m := message{f: new(fields)}
	rest := string(frame)
	take := func(n int) (string, error) {
		if n < 0 || n > len(rest) {
			return "", errParse
		}
		var v string
		v, rest = rest[:n], rest[n:]
		return v, nil
	}
	var err error
	if m.mti, err = take(4); err != nil || !digits(m.mti) {
		return m, errParse
	}
	var present [16]byte
	most := 1
	for i := 0; i < most; i++ {
		h, err := take(16)
		if err != nil {
			return m, err
		}
		if _, err := hex.Decode(present[8*i:8*i+8], []byte(h)); err != nil {
			return m, errParse
		}
		if present[0] >= 0x80 {
			most = 2
		}
	}
	for i := 1; i < most*64; i++ {
		if present[i/8]>>(7-i%8)&1 == 0 {
			continue
		}
		row := d[i+1]
		if row.Max == 0 {
			return m, errParse
		}
		n := row.Max
		if row.Length != "fixed" {
			head, err := take(len(row.Length)) // "ll" is two digits, "lll" three
			if err != nil {
				return m, err
			}
			if n, err = strconv.Atoi(head); err != nil || n > row.Max || n < 1 {
				return m, errParse
			}
		}
		v, err := take(n)
		if err != nil {
			return m, err
		}
		if row.Format == "n" && !digits(v) {
			return m, errParse
		}
		m.f[i+1] = v
	}
	if rest != "" {
		return m, errParse
	}
	return m, nil
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// write is the reverse of parse. Values are ours: one that does not fit is a defect.
func (d *dialect) write(m message) []byte {
	most := 8
	for _, v := range m.f[65:] {
		if v != "" {
			most = 16
		}
	}
	var present [16]byte
	if most == 16 {
		present[0] = 0x80
	}
	out := append(make([]byte, 0, 256), m.mti...)
	out = append(out, "00000000000000000000000000000000"[:2*most]...)
	for n, v := range m.f {
		if v == "" {
			continue
		}
		row := &d[n]
		if len(v) > row.Max {
			panic(fmt.Sprintf("hostsim: field %d does not fit", n))
		}
		present[(n-1)/8] |= 1 << (7 - (n-1)%8)
		switch {
		case row.Length != "fixed":
			out = fmt.Appendf(out, "%0*d%s", len(row.Length), len(v), v)
		case row.Format == "n":
			out = append(append(out, strings.Repeat("0", row.Max-len(v))...), v...)
		default:
			out = append(append(out, v...), strings.Repeat(" ", row.Max-len(v))...)
		}
	}
	copy(out[4:], strings.ToUpper(hex.EncodeToString(present[:most])))
	return out
}

package hostsim

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"coinop/cloud/acquirer/dialects"
)

// message is a message type and its fields by number, as on the line.
type message struct {
	mti string
	f   map[int]string
}

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
	m := message{f: map[int]string{}}
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
	if m.mti, err = take(4); err != nil || strings.Trim(m.mti, "0123456789") != "" {
		return m, errParse
	}
	var present []byte
	for i := 0; i == 0 || i == 1 && present[0] >= 0x80; i++ {
		h, err := take(16)
		if err != nil {
			return m, err
		}
		b, err := hex.DecodeString(h)
		if err != nil {
			return m, errParse
		}
		present = append(present, b...)
	}
	for i := 1; i < len(present)*8; i++ {
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
		if row.Format == "n" && strings.Trim(v, "0123456789") != "" {
			return m, errParse
		}
		m.f[i+1] = v
	}
	if rest != "" {
		return m, errParse
	}
	return m, nil
}

// write is the reverse of parse. Values are ours: one that does not fit is a defect.
func (d *dialect) write(m message) []byte {
	numbers := slices.Sorted(maps.Keys(m.f))
	present := make([]byte, 8, 16)
	if len(numbers) > 0 && numbers[len(numbers)-1] > 64 {
		present = present[:16]
		present[0] = 0x80
	}
	var body strings.Builder
	for _, n := range numbers {
		row, v := d[n], m.f[n]
		present[(n-1)/8] |= 1 << (7 - (n-1)%8)
		if row.Length == "fixed" {
			if row.Format == "n" {
				v = strings.Repeat("0", max(0, row.Max-len(v))) + v
			} else {
				v += strings.Repeat(" ", max(0, row.Max-len(v)))
			}
		} else {
			fmt.Fprintf(&body, "%0*d", len(row.Length), len(v))
		}
		if len(v) > row.Max || row.Max == 0 {
			panic(fmt.Sprintf("hostsim: field %d does not fit", n))
		}
		body.WriteString(v)
	}
	return []byte(m.mti + strings.ToUpper(hex.EncodeToString(present)) + body.String())
}

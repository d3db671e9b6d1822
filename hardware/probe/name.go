package probe

import (
	"path/filepath"
	"slices"
	"strings"
)

// names are words in the names of ports, in small letters, by driver; the first that fits a name is its
// driver. loose are words that others have too: enough for whoever looks for this driver and no other.
var names = []struct {
	driver, part string
	words, loose []string
}{
	{"qibixx", "vending", []string{"qibixx"}, []string{"mdb"}},
	{"magstripe", "reader", []string{"magtek", "msr", "swipe", "stripe", "magnetic"}, []string{"idtech", "id_tech"}},
	{"vivopay", "reader", []string{"id_tech", "idtech", "vivo"}, nil},
	{"escpos", "printer", []string{"epson", "star", "bixolon", "printer"}, nil},
	{"relay-board", "vending", []string{"rs485", "rs-485", "modbus"}, nil},
	{"dex", "audit", []string{"dex"}, nil},
	{"scanner", "scanner", []string{"scanner", "barcode", "honeywell", "metrologic", "newland", "datalogic", "zebra", "symbol", "gm65"}, nil},
}

// Suits reports whether the name of a port speaks for a driver, as the configuration names it; "scanner" is all
// of a scanner's.
func Suits(path, driver string) bool {
	name := strings.ToLower(filepath.Base(path))
	for _, n := range names {
		if n.driver == driver {
			return contains(name, n.words) || contains(name, n.loose)
		}
	}
	return false
}

func contains(name string, words []string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(name, w) })
}

// byName is what a name speaks for, among parts; all of them where none is given.
func (f *Found) byName(name string, parts ...string) {
	name = strings.ToLower(name)
	for _, n := range names {
		if contains(name, n.words) && (len(parts) == 0 || slices.Contains(parts, n.part)) {
			f.Part, f.Driver, f.Says = n.part, n.driver, "by its name alone"
			return
		}
	}
}

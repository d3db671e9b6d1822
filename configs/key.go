package configs

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Key is what may stand in a file, read from the struct's tags: the reader, explain and the schema
// follow the same tree.
//
//	key      its name          need   it must be there       default  its text when nobody says one
//	least    smallest value    most   largest, or of a list, how many
//	one      the values there are (with commas between, where one has a blank)
//	match, says   a pattern, and it in words
//	like     an example        any    an address may leave its host out
//	flag     the flag, and COINOP_ variable, that say the same    flags   none: it and what is below have none
type Key struct {
	Name                   string
	Need                   bool
	Default                string
	Least, Most            string
	One                    []string
	Match, Says, Like, Any string
	Flag                   string

	kind  kind
	field string // Agent.Identity: where the comment is
	index int    // of the field in its struct
	keys  []Key  // of a block, or of the blocks in a list
	// There is another like it, which is more likely meant.
	second bool
}

type kind uint8

const (
	isText kind = iota
	isPath
	isPort
	isAddress
	isCurrency
	isScale
	isAmount
	isDuration
	isSize
	isBool
	isTexts  // a list of texts
	isBlock  // a struct
	isOption // a pointer to a struct
	isList   // of structs
)

var kinds = map[reflect.Type]kind{
	reflect.TypeFor[string]():        isText,
	reflect.TypeFor[Path]():          isPath,
	reflect.TypeFor[Port]():          isPort,
	reflect.TypeFor[Address]():       isAddress,
	reflect.TypeFor[Currency]():      isCurrency,
	reflect.TypeFor[Scale]():         isScale,
	reflect.TypeFor[Amount]():        isAmount,
	reflect.TypeFor[time.Duration](): isDuration,
	reflect.TypeFor[Size]():          isSize,
	reflect.TypeFor[bool]():          isBool,
	reflect.TypeFor[[]string]():      isTexts,
}

// keysOf reads a struct's tags. A type it does not know is a mistake of ours.
func keysOf(t reflect.Type) []Key {
	var out []Key
	for i := range t.NumField() {
		f := t.Field(i)
		name, ok := f.Tag.Lookup("key")
		if !ok {
			continue
		}
		tag := f.Tag.Get
		k := Key{
			Name: name, Need: tag("need") != "", Default: tag("default"), Least: tag("least"), Most: tag("most"),
			One: oneOf(tag("one")), Match: tag("match"), Says: tag("says"), Like: tag("like"), Any: tag("any"),
			Flag: tag("flag"), field: t.Name() + "." + f.Name, index: i,
		}
		known := false
		if k.kind, known = kinds[f.Type]; !known {
			switch {
			case f.Type.Kind() == reflect.Struct:
				k.kind, k.keys = isBlock, keysOf(f.Type)
			case f.Type.Kind() == reflect.Pointer:
				k.kind, k.keys = isOption, keysOf(f.Type.Elem())
			case f.Type.Kind() == reflect.Slice:
				k.kind, k.keys = isList, keysOf(f.Type.Elem())
			default:
				panic(fmt.Sprintf("configs: %s has type %s", k.field, f.Type))
			}
		}
		if tag("flags") == "none" {
			k.noFlags()
		}
		out = append(out, k)
	}
	return out
}

func oneOf(values string) []string {
	if strings.Contains(values, ",") {
		return strings.Split(values, ",")
	}
	return strings.Fields(values)
}

// noFlags takes the flags away: they say what its like above says.
func (k *Key) noFlags() {
	k.Flag, k.second = "", true
	for i := range k.keys {
		k.keys[i].noFlags()
	}
}

func (k Key) leaf() bool { return k.kind < isBlock }

func find(keys []Key, name string) (Key, bool) {
	i := slices.IndexFunc(keys, func(k Key) bool { return k.Name == name })
	if i < 0 {
		return Key{}, false
	}
	return keys[i], true
}

func names(keys []Key) []string {
	out := make([]string, len(keys))
	for i, k := range keys {
		out[i] = k.Name
	}
	return out
}

// every calls fn for each key below, with its path: lanes[].reader.port.
func every(keys []Key, prefix string, fn func(path string, k Key)) {
	for _, k := range keys {
		path := prefix + k.Name
		if k.kind == isList {
			path += "[]"
		}
		fn(path, k)
		every(k.keys, path+".", fn)
	}
}

// variable is a key's name in the environment: lanes.0.reader.port is COINOP_LANES_0_READER_PORT.
func variable(path string) string {
	return "COINOP_" + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(path))
}

package configs

import (
	"fmt"
	"math"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Path is a file or folder, absolute when it comes from a file.
type Path string

// Port is the path of a serial port, or Auto.
type Port string

// Auto leaves a port to whoever opens it: legal when there is exactly one candidate.
const Auto Port = "auto"

// Address is host:port.
type Address string

// Currency is three capital letters; which there are is known to those who know money.
type Currency string

// Amount is money as a person writes it, in the machine's currency: 1.50.
type Amount string

// Scale is what one MDB unit is worth, as people write money: "0.05". Empty is auto: the currency's
// smallest unit.
type Scale string

// Size is bytes of disk, as people and disks' makers write them: 64MB is 64,000,000.
type Size int64

// Units is the scale as the bus has it: a factor and decimals, of a currency with so many decimals.
func (s Scale) Units(exponent int) (factor, decimals int, err error) {
	if s == "" {
		return 1, exponent, nil
	}
	whole, part, _ := strings.Cut(string(s), ".")
	if len(part) > exponent {
		if strings.Trim(part[exponent:], "0") != "" {
			return 0, 0, fmt.Errorf("%s is not a whole number of the currency's smallest unit", s)
		}
		part = part[:exponent]
	}
	f, err := strconv.ParseUint(whole+part, 10, 32)
	if err != nil || f == 0 || f > math.MaxInt32 {
		return 0, 0, fmt.Errorf("%s is no scale", s)
	}
	factor, decimals = int(f), len(part)
	for factor%10 == 0 && decimals > 0 {
		factor, decimals = factor/10, decimals-1
	}
	if factor > 255 {
		return 0, 0, fmt.Errorf("%s is factor %d with %d decimal places, MDB's factor ends at 255", s, factor, decimals)
	}
	return factor, decimals, nil
}

// wrong is a value that cannot be used, and what to write. hide: the line must not be shown.
type wrong struct {
	what, instead string
	hide          bool
}

var (
	scaleForm    = regexp.MustCompile(`^[0-9]{1,6}(\.[0-9]{1,4})?$`)
	amountForm   = regexp.MustCompile(`^[0-9]{1,9}(\.[0-9]{1,4})?$`)
	currencyForm = regexp.MustCompile(`^[A-Z]{3}$`)
	numberForm   = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?$`)
	secretWord   = regexp.MustCompile(`(?i)passw|passphrase|secret|token|api_?key|private|credential|^pin$|^key$`)
)

// value reads what was written for a key that has no keys below it.
func (k Key) value(v given) (any, *wrong) {
	if w := unfit(v); w != nil {
		return nil, w
	}
	t := v.text
	switch k.kind {
	case isPath:
		return Path(t), k.path(v)
	case isPort:
		if t == string(Auto) {
			return Auto, nil
		}
		return Port(t), k.path(v)
	case isAddress:
		return Address(t), k.address(t)
	case isCurrency:
		if !currencyForm.MatchString(t) {
			return nil, &wrong{what: quote(t) + " is no currency", instead: "write its three capital letters, as EUR"}
		}
		return Currency(t), nil
	case isScale:
		return k.scale(t)
	case isAmount:
		if !amountForm.MatchString(t) {
			return nil, &wrong{what: quote(t) + " is no amount", instead: "write it as on a price tag, as " + k.Like}
		}
		return Amount(t), nil
	case isDuration:
		return k.duration(t)
	case isSize:
		return k.size(t)
	case isBool:
		if v.quoted || (t != "true" && t != "false") {
			return nil, &wrong{what: quote(t) + " is neither true nor false", instead: "write true or false, without quotes"}
		}
		return t == "true", nil
	default:
		return t, k.word(t)
	}
}

// unfit is what no value may be.
func unfit(v given) *wrong {
	switch {
	case v.text == "":
		return &wrong{what: "is empty", instead: "write a value, or remove the line"}
	case len(v.text) > 4096:
		return &wrong{what: "is far too long", instead: "check that quotes are closed"}
	case strings.Contains(v.text, "-----BEGIN"):
		return &wrong{what: "has a key or certificate in it", instead: "put that into a file of its own and write its path here", hide: true}
	case strings.ContainsAny(v.text, "“”„‘’"):
		return &wrong{what: "has the curly quotes of a word processor", instead: `write straight ones: "`}
	case strings.TrimSpace(v.text) != v.text || strings.IndexFunc(v.text, unicode.IsControl) >= 0:
		return &wrong{what: "has a line break or blanks around it", instead: "write it on one line"}
	}
	return nil
}

func (k Key) path(v given) *wrong {
	switch {
	case strings.HasPrefix(v.text, "~"):
		return &wrong{what: "~ means nothing here", instead: "write the whole path, as " + k.Like}
	case v.layer == File && !strings.HasPrefix(v.text, "/"):
		instead := "write the whole path, as " + k.Like
		if k.kind == isPort {
			instead += ", or auto"
		}
		return &wrong{what: quote(v.text) + " does not begin with /", instead: instead}
	}
	return nil
}

func (k Key) address(t string) *wrong {
	instead := "write host:port, as " + k.Like
	if strings.Contains(t, "@") {
		return &wrong{what: "has a user name in it", instead: instead, hide: true}
	}
	if scheme, rest, ok := strings.Cut(t, "://"); ok {
		return &wrong{what: quote(scheme+"://") + " does not belong here", instead: "write " + quote(strings.TrimRight(rest, "/"))}
	}
	host, port, err := net.SplitHostPort(t)
	n, errPort := strconv.ParseUint(port, 10, 16)
	switch {
	case err != nil && !strings.Contains(t, ":"):
		return &wrong{what: quote(t) + " has no port", instead: instead}
	case err != nil || strings.ContainsAny(host, " /"):
		return &wrong{what: quote(t) + " is no address", instead: instead}
	case errPort != nil || (n == 0 && k.Any == ""):
		return &wrong{what: quote(port) + " is no port", instead: "write 1 to 65535"}
	case host == "" && k.Any == "":
		return &wrong{what: quote(t) + " has no host", instead: instead}
	}
	return nil
}

func (k Key) scale(t string) (any, *wrong) {
	switch {
	case t == string(Auto):
		return Scale(""), nil
	case strings.Contains(t, ",") && scaleForm.MatchString(strings.Replace(t, ",", ".", 1)):
		return nil, &wrong{what: quote(t) + " has a comma", instead: "write " + strings.Replace(t, ",", ".", 1)}
	case !scaleForm.MatchString(t):
		return nil, &wrong{what: quote(t) + " is no amount of money", instead: "write auto, or what one MDB unit is worth, as 0.05"}
	case strings.Trim(t, "0.") == "":
		return nil, &wrong{what: "is nothing", instead: "write auto, or what one MDB unit is worth, as 0.05"}
	}
	return Scale(t), nil
}

func (k Key) duration(t string) (any, *wrong) {
	d, err := time.ParseDuration(t)
	switch {
	case err != nil && numberForm.MatchString(t):
		return nil, &wrong{what: t + " has no unit", instead: "write " + t + "s for seconds; " + k.span()}
	case err != nil:
		return nil, &wrong{what: quote(t) + " is no time", instead: "write a number and a unit, as 10s or 1m30s; " + k.span()}
	}
	least, most := mustDuration(k.Least), mustDuration(k.Most)
	switch {
	case d < least:
		return nil, &wrong{what: t + " is too short", instead: k.span()}
	case d > most:
		return nil, &wrong{what: t + " is too long", instead: k.span()}
	case d%time.Millisecond != 0:
		return nil, &wrong{what: t + " is finer than a millisecond", instead: k.span()}
	}
	return d, nil
}

var sizeForm = regexp.MustCompile(`^([0-9]{1,6})(MB|GB)$`)

func parseSize(t string) (Size, bool) {
	m := sizeForm.FindStringSubmatch(t)
	if m == nil {
		return 0, false
	}
	n, _ := strconv.ParseInt(m[1], 10, 64) // six digits
	if m[2] == "GB" {
		n *= 1000
	}
	return Size(n * 1_000_000), true
}

func (k Key) size(t string) (any, *wrong) {
	n, ok := parseSize(t)
	least, _ := parseSize(k.Least)
	most, _ := parseSize(k.Most)
	switch {
	case !ok && numberForm.MatchString(t):
		return nil, &wrong{what: t + " has no unit", instead: "write " + t + "MB; " + k.span()}
	case !ok:
		return nil, &wrong{what: quote(t) + " is no size", instead: "write a whole number and MB or GB, as " + k.Default + "; " + k.span()}
	case n < least:
		return nil, &wrong{what: t + " is too little", instead: k.span()}
	case n > most:
		return nil, &wrong{what: t + " is too much", instead: k.span()}
	}
	return n, nil
}

// span is what may be, in words.
func (k Key) span() string { return k.Least + " to " + k.Most + " may be" }

func mustDuration(s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		panic(fmt.Sprintf("configs: a tag says %q: %v", s, err))
	}
	return d
}

func (k Key) word(t string) *wrong {
	if u, err := url.Parse(t); strings.Contains(t, "://") && (err != nil || u.User.String() != u.User.Username() || u.Query().Has("password")) {
		return &wrong{what: "has a password in it", instead: "keep it out of this file: PGPASSWORD or ~/.pgpass of the service's user", hide: true}
	}
	if len(k.One) > 0 {
		for _, one := range k.One {
			if t == one {
				return nil
			}
		}
		all := "write " + strings.Join(k.One, " or ")
		if n, ok := near(t, k.One); ok && len(k.One) > 1 {
			all = fmt.Sprintf("did you mean %q? There is %s", n, strings.Join(k.One, ", "))
		}
		return &wrong{what: quote(t) + " is not known", instead: all}
	}
	if k.Match != "" && !regexp.MustCompile(`^(?:`+k.Match+`)$`).MatchString(t) {
		return &wrong{what: quote(t) + " cannot be", instead: "want " + k.Says + ", as " + k.Like}
	}
	return nil
}

// quote is text in quotes, short enough for a line.
func quote(t string) string {
	if r := []rune(t); len(r) > 40 {
		t = string(r[:40]) + "…"
	}
	return strconv.Quote(t)
}

package card

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
)

// LogHandler passes records on to next with everything masked that looks like a card: in messages,
// in attributes of any kind, in groups, in errors and Stringers. Attributes named pk or packet are
// dropped whole: an MQTT library logs its packets under those names.
//
// It is the second line. The first is that PAN, Track2 and Expiry mask themselves.
func LogHandler(next slog.Handler) slog.Handler { return logHandler{next} }

type logHandler struct{ next slog.Handler }

func (h logHandler) Enabled(ctx context.Context, l slog.Level) bool { return h.next.Enabled(ctx, l) }

func (h logHandler) Handle(ctx context.Context, r slog.Record) error {
	out := slog.NewRecord(r.Time, r.Level, Scrub(r.Message), r.PC)
	r.Attrs(func(a slog.Attr) bool {
		if a, ok := scrubAttr(a); ok {
			out.AddAttrs(a)
		}
		return true
	})
	return h.next.Handle(ctx, out)
}

func (h logHandler) WithAttrs(as []slog.Attr) slog.Handler {
	return logHandler{h.next.WithAttrs(scrubAttrs(as))}
}

func (h logHandler) WithGroup(name string) slog.Handler {
	return logHandler{h.next.WithGroup(Scrub(name))}
}

func scrubAttrs(as []slog.Attr) []slog.Attr {
	out := make([]slog.Attr, 0, len(as))
	for _, a := range as {
		if a, ok := scrubAttr(a); ok {
			out = append(out, a)
		}
	}
	return out
}

func scrubAttr(a slog.Attr) (slog.Attr, bool) {
	if a.Key == "pk" || a.Key == "packet" {
		return slog.Attr{}, false
	}
	return slog.Attr{Key: Scrub(a.Key), Value: scrubValue(a.Value.Resolve())}, true
}

func scrubValue(v slog.Value) slog.Value {
	switch v.Kind() {
	case slog.KindString:
		return slog.StringValue(Scrub(v.String()))
	case slog.KindGroup:
		return slog.GroupValue(scrubAttrs(v.Group())...)
	case slog.KindInt64:
		return scrubbedOr(strconv.FormatInt(v.Int64(), 10), v)
	case slog.KindUint64:
		return scrubbedOr(strconv.FormatUint(v.Uint64(), 10), v)
	case slog.KindFloat64:
		return scrubbedOr(strconv.FormatFloat(v.Float64(), 'f', -1, 64), v)
	case slog.KindAny:
		return scrubAny(v)
	default: // bool, time, duration hold no text
		return v
	}
}

func scrubAny(v slog.Value) slog.Value {
	switch x := v.Any().(type) {
	case nil:
		return v
	case []byte:
		return slog.StringValue(Scrub(string(x)))
	case error:
		return slog.StringValue(Scrub(x.Error()))
	case fmt.Stringer:
		return slog.StringValue(Scrub(x.String()))
	case *slog.Source:
		return v
	default:
		// Handlers print it with fmt or as JSON; JSON follows pointers that fmt does not.
		text := fmt.Sprintf("%+v", x)
		if s := Scrub(text); s != text {
			return slog.StringValue(s)
		}
		if js, err := json.Marshal(x); err == nil && Scrub(string(js)) != string(js) {
			return slog.StringValue(Scrub(string(js)))
		}
		return v
	}
}

func scrubbedOr(text string, v slog.Value) slog.Value {
	if s := Scrub(text); s != text {
		return slog.StringValue(s)
	}
	return v
}

// Scrub masks what looks like card data in s:
//
//   - 13 to 19 digits, single spaces or hyphens between them allowed, that pass Luhn and begin as a
//     card can (not 0; 1 only with 15 digits, so that times in milliseconds stay readable),
//   - a run of digits that holds such a number of a known brand, as a message's frame does: the
//     whole run,
//   - 12 to 19 digits, '=' or 'D' or '^', and four more digits or a name: a track, with all that
//     belongs to it, whatever its check digit,
//   - the same written in hex, byte by byte: 13 or more of 30 to 39.
//
// A number of 12 digits alone is left: it is a retrieval reference far more often than a card.
func Scrub(s string) string {
	var out strings.Builder
	done := 0
	for i := 0; i < len(s); {
		if !digit(s[i]) {
			i++
			continue
		}
		run := runAt(s[i:])
		end, masked := i+run.length, ""
		switch {
		case trackAfter(run.digits, s[end:]) > 0:
			masked = mask(run.digits) + s[end:end+1] + "*"
			end += trackAfter(run.digits, s[end:])
		case run.likeCard():
			masked = mask(run.digits)
		}
		if masked != "" {
			out.WriteString(s[done:i])
			out.WriteString(masked)
			done = end
		}
		i = end
	}
	if done == 0 {
		return s
	}
	out.WriteString(s[done:])
	return out.String()
}

type run struct {
	digits string
	chunks []string // the digits between separators
	length int      // in the text, separators included
}

// likeCard reports a card in one chunk or in some that follow one another.
func (r run) likeCard() bool {
	for i, joined := range r.chunks {
		if likeCard(joined) {
			return true
		}
		for _, next := range r.chunks[i+1:] {
			if joined += next; len(joined) > 19 {
				break
			}
			if likeCard(joined) {
				return true
			}
		}
	}
	return false
}

// runAt reads digits with at most one space or hyphen between two of them.
func runAt(s string) run {
	var digits strings.Builder
	n, from := 0, 0
	var chunks []string
	for n < len(s) {
		if digit(s[n]) {
			digits.WriteByte(s[n])
			n++
			continue
		}
		if (s[n] == ' ' || s[n] == '-') && n+1 < len(s) && digit(s[n+1]) {
			chunks = append(chunks, s[from:n])
			n++
			from = n
			continue
		}
		break
	}
	return run{digits.String(), append(chunks, s[from:n]), n}
}

// trackAfter is how much of rest belongs to a track whose PAN ends right before it, or 0.
func trackAfter(digits, rest string) int {
	if len(digits) < 12 || len(rest) < 5 {
		return 0
	}
	end := func(c byte) bool { return c == ' ' || c == '"' || c == ',' || c == ';' || c == '?' || c == '\n' }
	switch rest[0] {
	case '=', 'D', 'd':
		n := 1
		for n < len(rest) && digit(rest[n]) {
			n++
		}
		if n < 5 {
			return 0
		}
		return n
	case '^': // track 1: PAN ^ name ^ YYMM ...
		n := 1
		for n < len(rest) && rest[n] != '^' {
			n++
		}
		for n < len(rest) && !end(rest[n]) {
			n++
		}
		return n
	}
	return 0
}

func likeCard(digits string) bool {
	switch n := len(digits); {
	case n < 13:
		return false
	case n <= 19 && cardStart(digits) && Luhn(digits):
		return true
	}
	return holdsCard(digits) || spelled(digits)
}

func cardStart(digits string) bool {
	return digits[0] > '1' || digits[0] == '1' && len(digits) == 15
}

// spelled reports digits that are the hex of 13 or more ASCII digits.
func spelled(digits string) bool {
	for start := range 2 {
		n := 0
		for i := start; i+1 < len(digits); i += 2 {
			if digits[i] != '3' {
				n = 0
				continue
			}
			if n++; n >= 13 {
				text, err := hex.DecodeString(digits[i-2*n+2 : i+2])
				if err == nil && (holdsCard(string(text)) || cardStart(string(text)) && Luhn(string(text))) {
					return true
				}
			}
		}
	}
	return false
}

// holdsCard reports a number of a known brand, in one of the brand's lengths, anywhere in digits.
func holdsCard(digits string) bool {
	for i := 0; i+14 <= len(digits); i++ {
		for _, size := range BrandOf(digits[i:]).lengths() {
			if i+size <= len(digits) && Luhn(digits[i:i+size]) {
				return true
			}
		}
	}
	return false
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

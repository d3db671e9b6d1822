package card

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
)

func TestScrub(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, in, want string }{
		{"plain", "card 5413330089020011 read", "card ************0011 read"},
		{"spaces", "5413 3300 8902 0011", "************0011"},
		{"hyphens", "5413-3300-8902-0011.", "************0011."},
		{"number before it", "lane 42 5413330089020011", "lane **************0011"},
		{"with its length", "165413330089020011", "**************0011"},
		{"track", ";5413330089020011=25122010123456789?", ";************0011=*?"},
		{"track with a wrong check digit", "5413330089020012D25122010123456789", "************0012D*"},
		{"track 1", "B5413330089020011^DOE/JOHN^25122010123", "B************0011^*"},
		{"hex of ascii", "35343133333330303839303230303131", "****************************3131"},
		{"two cards", "4111111111111111,378282246310005", "************1111,***********0005"},
		{"inside a frame", "0100165413330089020011000000000000000250", strings.Repeat("*", 36) + "0250"},
		{"wrong check digit", "5413330089020012", "5413330089020012"},
		{"milliseconds", "1764000000004", "1764000000004"},
		{"retrieval reference", "632610000103", "632610000103"},
		{"amounts and times", "000000000250 1122093002 000103", "000000000250 1122093002 000103"},
		{"uuid", "0190e4c2-9f3a-7bbb-8ccc-0123456789ab", "0190e4c2-9f3a-7bbb-8ccc-0123456789ab"},
		{"empty", "", ""},
	} {
		if got := Scrub(c.in); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

type stringer struct{ s string }

func (s stringer) String() string { return s.s }

type valuer struct{ v any }

func (v valuer) LogValue() slog.Value { return slog.AnyValue(v.v) }

func TestLogHandler(t *testing.T) {
	t.Parallel()
	leak := "read " + testPAN
	type deep struct{ In *stringer }
	type open struct{ In *struct{ Card string } }
	for _, c := range []struct {
		name string
		log  func(*slog.Logger)
	}{
		{"message", func(l *slog.Logger) { l.Info(leak) }},
		{"string", func(l *slog.Logger) { l.Info("m", "a", leak) }},
		{"error", func(l *slog.Logger) { l.Info("m", "err", fmt.Errorf("x: %w", errors.New(leak))) }},
		{"stringer", func(l *slog.Logger) { l.Info("m", "a", stringer{leak}) }},
		{"valuer", func(l *slog.Logger) { l.Info("m", "a", valuer{valuer{leak}}) }},
		{"bytes", func(l *slog.Logger) { l.Info("m", "a", []byte(leak)) }},
		{"number", func(l *slog.Logger) { l.Info("m", "a", int64(5413330089020011), "b", uint64(5413330089020011)) }},
		{"struct", func(l *slog.Logger) { l.Info("m", "a", struct{ Card string }{leak}) }},
		{"pointer below", func(l *slog.Logger) { l.Info("m", "a", open{&struct{ Card string }{leak}}, "b", deep{&stringer{leak}}) }},
		{"map", func(l *slog.Logger) { l.Info("m", "a", map[string]string{"x": testTrack}) }},
		{"group", func(l *slog.Logger) { l.Info("m", slog.Group("g", slog.Group("h", "a", leak))) }},
		{"with", func(l *slog.Logger) { l.With("a", leak, slog.Group("g", "b", leak)).Info("m") }},
		{"with group", func(l *slog.Logger) { l.WithGroup("g").With("a", leak).Info("m", "b", leak) }},
		{"key", func(l *slog.Logger) { l.Info("m", leak, 1) }},
		{"packet", func(l *slog.Logger) {
			l.With("packet", "secret-packet").Info("m", "pk", "secret-packet", slog.Group("g", "packet", "secret-packet"))
		}},
	} {
		for _, form := range []string{"text", "json"} {
			var b bytes.Buffer
			var next slog.Handler = slog.NewTextHandler(&b, nil)
			if form == "json" {
				next = slog.NewJSONHandler(&b, nil)
			}
			c.log(slog.New(LogHandler(next)))
			if got := b.String(); strings.Contains(got, testPAN) || strings.Contains(got, "NTQxMzMz") ||
				strings.Contains(got, "secret-packet") || !strings.Contains(got, "m") {
				t.Errorf("%s, %s: %s", c.name, form, got)
			}
		}
	}
	var b bytes.Buffer
	slog.New(LogHandler(slog.NewTextHandler(&b, nil))).Info("sold", "n", 3, "ok", true, "ip", netip.MustParseAddr("10.0.0.1"))
	if !strings.Contains(b.String(), "msg=sold n=3 ok=true ip=10.0.0.1") {
		t.Errorf("changed what holds no card: %s", &b)
	}
}

func FuzzScrub(f *testing.F) {
	f.Add("card 5413330089020011 read")
	f.Add(testTrack)
	f.Fuzz(func(t *testing.T, s string) {
		once := Scrub(s)
		if strings.Contains(once, testPAN) {
			t.Errorf("%q", once)
		}
		if again := Scrub(once); len(again) > len(once)+len(once) {
			t.Errorf("grows: %q", again)
		}
		if tr, err := ParseTrack2(s); err == nil && strings.Contains(Scrub("x"+tr.Reveal()), tr.PAN().Reveal()) {
			t.Errorf("a track stays: %q", s)
		}
	})
}

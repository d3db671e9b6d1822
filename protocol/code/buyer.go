package code

import (
	_ "embed" // the texts
	"strings"
)

// A language is a file: a reason's name, a tab, the text.
//
//go:embed buyer.en.txt
var buyerEnglish string

var buyerTexts = func() map[string]string {
	m := map[string]string{}
	for line := range strings.Lines(buyerEnglish) {
		if reason, text, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok {
			m[reason] = text
		}
	}
	return m
}()

// Buyer is what a buyer is told of a reason that a screen names, in English: what was wrong and what to do, in
// a line; "" where the screen says all. One with a language of its own goes by the name.
func Buyer(reason string) string { return buyerTexts[reason] }

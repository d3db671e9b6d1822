package gpio

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"periph.io/x/host/v3"
	"periph.io/x/host/v3/gpioioctl"
)

// Chip is what the kernel says of a chip of pins, as gpiochip0: its label, and the names of its lines that have
// one, which are what a configuration names. No line is requested.
func Chip(name string) (says string, err error) {
	if _, err := host.Init(); err != nil {
		return "", err
	}
	i := slices.IndexFunc(gpioioctl.Chips, func(c *gpioioctl.GPIOChip) bool { return c.Name() == name })
	if i < 0 {
		return "", fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	c := gpioioctl.Chips[i]
	var named []string
	for _, l := range c.Lines() {
		if l.Name() != "" {
			named = append(named, l.Name())
		}
	}
	return strings.TrimSuffix(fmt.Sprintf("%s, %d lines: %s", c.Label(), c.LineCount(), strings.Join(named, " ")), ": "), nil
}

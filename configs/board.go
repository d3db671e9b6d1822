package configs

import (
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// Board is what hangs at pins of this computer and belongs to no outlet.
type Board struct {
	// Whether a computer without such pins is a fault. With false it is told, and all is well.
	Required bool `key:"required" default:"true"`
	// Switch of the service door. Opening and closing are recorded, and the machines' books are read then where there are any (audit).
	Door *Contact `key:"door"`
	// Tamper loop: a wire that is closed as long as nobody has opened the box or cut it. When it opens nothing is sold until coinop-agent tamper clear.
	Tamper *Contact `key:"tamper"`
	// Lamp. With a fault it blinks: 2 no way to the cloud or bank, 3 disk, 4 stopped by the cloud, 5 a device is not there, 6 coins or bills, 7 tamper, 1 anything else; coinop-agent status says more.
	Lamp *Lamp `key:"lamp"`
	// Buzzer.
	Buzzer *Buzzer `key:"buzzer"`
	// Relays that take a device's power away for a moment when it stays away: its contact NC is in the device's line.
	Power []Power `key:"power" most:"6"`
}

// Contact is a switch at a pin.
type Contact struct {
	// Its pin, as gpioinfo names it.
	Pin string `key:"pin" need:"yes" match:"[A-Z][A-Z0-9_]{1,19}" says:"the name of a pin" like:"GPIO5"`
	// Level of the pin while the contact is closed: low where it pulls to ground. The pin is pulled the other way, so a wire that is cut reads as open.
	Closed string `key:"closed" default:"low" one:"low high"`
}

// Lamp is a light.
type Lamp struct {
	// Its pin, as gpioinfo names it.
	Pin string `key:"pin" need:"yes" match:"[A-Z][A-Z0-9_]{1,19}" says:"the name of a pin" like:"GPIO13"`
	// Level at which it is on.
	Active string `key:"active" default:"high" one:"high low"`
	// What it does while all is well: on, off, or steps in ms, as 100/2900 * (on 100, off 2900, again).
	Ready string `key:"ready" default:"on" match:".{1,60}" says:"on, off, or steps as 2x150/100" like:"on"`
	// When a card was read.
	Card string `key:"card" default:"80" match:".{1,60}" says:"on, off, or steps as 2x150/100" like:"80"`
	// When a payment was approved: 2x150/100 is twice 150 ms with 100 ms between.
	Approved string `key:"approved" default:"2x150/100" match:".{1,60}" says:"on, off, or steps as 2x150/100" like:"2x150/100"`
	// When it was not.
	Declined string `key:"declined" default:"3x60/60" match:".{1,60}" says:"on, off, or steps as 2x150/100" like:"3x60/60"`
	// On tamper, once.
	Alarm string `key:"alarm" default:"20x100/100" match:".{1,60}" says:"on, off, or steps as 2x150/100" like:"20x100/100"`
}

// Buzzer is a sound.
type Buzzer struct {
	// Its pin, as gpioinfo names it.
	Pin string `key:"pin" need:"yes" match:"[A-Z][A-Z0-9_]{1,19}" says:"the name of a pin" like:"GPIO12"`
	// Level at which it sounds.
	Active string `key:"active" default:"high" one:"high low"`
	// When a card was read: off, or steps in ms, as 80.
	Card string `key:"card" default:"80" match:".{1,60}" says:"off, or steps as 2x150/100" like:"80"`
	// When a payment was approved: 2x150/100 is twice 150 ms with 100 ms between.
	Approved string `key:"approved" default:"2x150/100" match:".{1,60}" says:"off, or steps as 2x150/100" like:"2x150/100"`
	// When it was not.
	Declined string `key:"declined" default:"3x60/60" match:".{1,60}" says:"off, or steps as 2x150/100" like:"3x60/60"`
	// On tamper, once.
	Alarm string `key:"alarm" default:"10x500/500" match:".{1,60}" says:"off, or steps as 2x150/100" like:"10x500/500"`
}

// Power is a relay in a device's power.
type Power struct {
	// Whose power it is, as coinop-agent status names it.
	Device string `key:"device" need:"yes" one:"reader,reader 2,reader 3,terminal,printer,cash,vmc,outlets,dex,scanner" like:"reader"`
	// Lane of the device.
	Lane string `key:"lane" default:"0" match:"[0-9]{1,2}" says:"a lane's number" like:"0"`
	// Pin of the relay, as gpioinfo names it.
	Pin string `key:"pin" need:"yes" match:"[A-Z][A-Z0-9_]{1,19}" says:"the name of a pin" like:"GPIO16"`
	// Level at which the relay is on, and the power off.
	Active string `key:"active" default:"high" one:"high low"`
	// How long the power is off.
	Off time.Duration `key:"off" default:"3s" least:"100ms" most:"30s"`
	// How long the device must have been away. Each time in vain the pause to the next doubles, up to an hour.
	After time.Duration `key:"after" default:"2m" least:"10s" most:"1h"`
}

// Thermometer is one.
type Thermometer struct {
	// What it measures, for reports.
	Name string `key:"name" need:"yes" match:"[a-z][a-z0-9_]{0,19}" says:"up to 20 small letters, digits and _" like:"cabinet"`
	// w1: a DS18B20 at a 1-wire bus of the kernel's. ds18b20: one behind a bridge (DS2482). tmp102: at I2C. soc: this computer's own.
	Driver string `key:"driver" default:"w1" one:"w1 ds18b20 tmp102 soc"`
	// Which it is: of w1 its name under /sys/bus/w1/devices, of ds18b20 its 16 hex digits, of tmp102 its address 48 to 4b, of soc the number of its thermal zone.
	ID string `key:"id" match:"[0-9a-f-]{1,20}" says:"digits, a to f, and -" like:"28-000005e2fdc3"`
	// Bus of a ds18b20 or tmp102, as its number; the first where there is none.
	Bus string `key:"bus" match:"[0-9]{1,3}" says:"a number" like:"1"`
	// Below so many °C it is told as too cold. Only with most.
	Least string `key:"least" match:"-?[0-9]{1,3}" says:"whole °C, as 2" like:"2"`
	// Above so many °C it is told as too hot.
	Most string `key:"most" match:"-?[0-9]{1,3}" says:"whole °C, as 8" like:"8"`
}

// Watchdog is the kernel's.
type Watchdog struct {
	// The device. Only the agent may have it open.
	Device Path `key:"device" default:"/dev/watchdog" like:"/dev/watchdog"`
	// After how long without a sign of the agent the box restarts. Some have a limit: bcm2835 15s.
	Timeout time.Duration `key:"timeout" default:"15s" least:"10s" most:"5m"`
}

// checkTemperatures finds what no single value of a thermometer shows.
func (a Agent) checkTemperatures() (ps []Problem) {
	names := map[string]bool{}
	for i, t := range a.Temperatures {
		key := fmt.Sprintf("temperatures.%d.", i)
		if names[t.Name] {
			ps = append(ps, a.Refuse(key+"name", t.Name+" is there already", "each has its own name"))
		}
		names[t.Name] = true
		form := map[string]string{"w1": `[0-9a-f]{2}-[0-9a-f]{12}`, "ds18b20": `[0-9a-f]{16}`, "tmp102": `4[89ab]`, "soc": `[0-9]{0,2}`}[t.Driver]
		if ok, _ := regexp.MatchString("^"+form+"$", t.ID); !ok { // of a pattern that is right
			ps = append(ps, a.Refuse(key+"id", fmt.Sprintf("%q is none of %s", t.ID, t.Driver), "see coinop-agent config explain temperatures"))
		}
		least, _ := strconv.Atoi(t.Least)
		most, _ := strconv.Atoi(t.Most)
		switch {
		case t.Least != "" && t.Most == "":
			ps = append(ps, a.Refuse(key+"least", "is the lower of two limits, and there is no other", "write most beside it"))
		case t.Least != "" && least >= most:
			ps = append(ps, a.Refuse(key+"least", "is not below most", "check both"))
		}
	}
	return ps
}

// checkBoard finds what no single value of the board shows.
func (a Agent) checkBoard() (ps []Problem) {
	b := a.Board
	if b == nil {
		return nil
	}
	pins, devices := map[string]string{}, map[string]bool{}
	pin := func(key, name string) {
		if first, twice := pins[name]; twice {
			ps = append(ps, a.Refuse(key, fmt.Sprintf("%s is that of %s already", name, first), "each has its own: check the wires"))
		}
		pins[name] = key
	}
	for i, l := range a.Lanes { // outlets at pins
		if l.Vending == nil || l.Vending.Driver != "gpio" {
			continue
		}
		at := fmt.Sprintf("lanes.%d.vending", i)
		for _, name := range []string{l.Vending.Door, l.Vending.Tamper} {
			pins[name] = at
		}
		for _, o := range l.Vending.Outlets {
			pins[o.Relay], pins[o.Feedback], pins[o.Button] = at, at, at
		}
	}
	if b.Door != nil {
		pin("board.door.pin", b.Door.Pin)
	}
	if b.Tamper != nil {
		pin("board.tamper.pin", b.Tamper.Pin)
	}
	if b.Lamp != nil {
		pin("board.lamp.pin", b.Lamp.Pin)
	}
	if b.Buzzer != nil {
		pin("board.buzzer.pin", b.Buzzer.Pin)
	}
	for i, p := range b.Power {
		key := fmt.Sprintf("board.power.%d.", i)
		pin(key+"pin", p.Pin)
		if n, err := strconv.Atoi(p.Lane); err != nil || n >= len(a.Lanes) {
			ps = append(ps, a.Refuse(key+"lane", "there is no lane "+p.Lane, "the first of the list is 0"))
		}
		if devices[p.Lane+p.Device] {
			ps = append(ps, a.Refuse(key+"device", p.Device+" has a relay already", "one device, one relay"))
		}
		devices[p.Lane+p.Device] = true
	}
	if len(pins) == 0 {
		ps = append(ps, a.Refuse("board.door", "is missing, and all else of a board too", "write door, tamper, lamp, buzzer or power below board, or remove the line"))
	}
	return ps
}

package probe

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"coinop/hardware"
	"coinop/hardware/mdb"
)

// question is a device's own.
type question struct {
	driver, part string
	baud         int
	ask          []byte                                   // nothing: it is only listened
	with         []string                                 // of the configuration
	open         func(path string) (hardware.Port, error) // nil: 8N1 at baud
	wait         time.Duration
	more         *question // to whom has answered: maker, serial number, version
	// answer looks at what has come so far.
	answer func(got []byte) (says string, ok bool)
}

// serial are the questions at serial lines, the least harmful first. Sources: MDB/ICP 4.2, sections 2, 5 (SETUP) and 7
// (SETUP/CONFIG DATA); RS232-MDB and MDB-RS232 of Waferstar, whose adapters answer a message without CHK with its sum,
// and a command with hex; ESC/POS DLE EOT; ID TECH NEO 2, 12-01; PN532 user manual, 7.2.2; Qibixx MDB interface, V;
// Modbus RTU, function 01; EVA-DTS 6.1, DEX.
//
// An MDB-RS232 passes on what it is sent as a command of the bus, and 0D is a changer's DISPENSE: it is asked before
// anybody is sent a carriage return.
var serial = []question{
	{driver: "mdb-raw", part: "vending", open: mdb.OpenRaw, answer: controller, wait: 450 * time.Millisecond}, // two POLLs
	{driver: "waferstar", part: "cash", baud: 9600, ask: []byte{0x09}, answer: waferChanger, wait: busWait},
	{driver: "waferstar", part: "vending", baud: 9600, ask: []byte{0, 0, 0x7F}, answer: wafer},
	{driver: "escpos", part: "printer", baud: 9600, ask: []byte{0x10, 0x04, 0x01}, answer: printer},
	{driver: "escpos", part: "printer", baud: 115200, ask: []byte{0x10, 0x04, 0x01}, answer: printer},
	{driver: "vivopay", part: "reader", baud: 115200, ask: vivopaySerial, answer: vivopay},
	{driver: "pn532", part: "reader", baud: 115200, ask: pn532Firmware, answer: pn532},
	{driver: "qibixx", part: "vending", baud: 115200, ask: []byte("\r\nV\r\n"), answer: qibixx},
	{driver: "relay-board", part: "vending", baud: 9600, ask: []byte{1, 1, 0, 0, 0, 8, 0x3D, 0xCC}, answer: board},
	{driver: "mdb", part: "cash", open: mdb.OpenRaw, ask: block(0x09), answer: changer, wait: busWait, more: &changerID},
	{driver: "mdb", part: "terminal", open: mdb.OpenRaw, ask: block(0x11, 0, 3, 0, 0, 0), answer: cashless, wait: busWait, more: readerID(0x17)},
	{driver: "mdb", part: "terminal", open: mdb.OpenRaw, ask: block(0x61, 0, 3, 0, 0, 0), answer: cashless, wait: busWait, more: readerID(0x67), with: []string{`bus_address: "60"`}},
	{driver: "dex", part: "audit", baud: 9600, ask: []byte{0x05}, answer: dex},
}

const busWait = 300 * time.Millisecond

// changerID is EXPANSION IDENTIFICATION, which a changer has from level 3 on (MDB/ICP 4.2, 5.3).
var changerID = question{open: mdb.OpenRaw, ask: block(0x0F, 0), wait: busWait, answer: func(got []byte) (string, bool) {
	return identified(got, 0, 33)
}}

// readerID is EXPANSION REQUEST ID, to which a reader says PERIPHERAL ID (7.4.15); we say who we are, as it wants.
func readerID(command byte) *question {
	us := append([]byte{command, 0}, "COI000000000001COINOP-AGENT\x01\x00"...)
	return &question{open: mdb.OpenRaw, ask: block(us...), wait: busWait, answer: func(got []byte) (string, bool) {
		if len(got) == 0 || got[0] != 0x09 {
			return "", false
		}
		return identified(got, 1, 30)
	}}
}

// identified is maker (3), serial number (12), model (12) and version (2, BCD) from a byte on, in a block of at least
// so many bytes.
func identified(got []byte, from, least int) (string, bool) {
	u := mdb.Unmark{Peripheral: true}
	b, err := mdb.ReadPeripheral(u.Add(got))
	if err != nil || len(b) < least {
		return "", false
	}
	text := func(n int) string {
		s := strings.TrimSpace(printable(string(b[from : from+n])))
		from += n
		return s
	}
	maker, serial, model := text(3), text(12), text(12)
	return fmt.Sprintf("%s %s, serial %s, version %02X%02X", maker, model, serial, b[from], b[from+1]), true
}

func printer(got []byte) (string, bool) {
	for _, b := range got {
		if b&0x93 == 0x12 {
			says := "a receipt printer"
			if b&0x08 != 0 {
				says += ", offline"
			}
			return says, len(got) == 1 // a status is one byte; more is another's speech
		}
	}
	return "", false
}

// vivopaySerial asks a reader of ID TECH's for its serial number.
var vivopaySerial = []byte("ViVOtech2\x00\x12\x01\x00\x00\x18\xA5")

func vivopay(got []byte) (string, bool) {
	i := bytes.Index(got, []byte("ViVOtech2\x00\x12"))
	if i < 0 || len(got) < i+14 || len(got) < i+16+int(got[i+13]) {
		return "", false
	}
	serial := got[i+14 : i+14+int(got[i+13])]
	return "ID TECH ViVOpay, serial " + string(bytes.TrimRight(serial, "\x00 ")), got[i+11] == 0
}

// pn532Firmware wakes a PN532 at a UART and asks for its firmware: GetFirmwareVersion.
var pn532Firmware = append(append([]byte{0x55, 0x55}, make([]byte, 14)...), 0, 0, 0xFF, 0x02, 0xFE, 0xD4, 0x02, 0x2A, 0)

func pn532(got []byte) (string, bool) {
	i := bytes.Index(got, []byte{0xD5, 0x03, 0x32})
	if i < 0 || len(got) < i+5 {
		return "", false
	}
	return fmt.Sprintf("PN532, firmware %d.%d", got[i+3], got[i+4]), true
}

func qibixx(got []byte) (string, bool) {
	for _, line := range strings.FieldsFunc(string(got), func(r rune) bool { return r == '\r' || r == '\n' }) {
		if strings.HasPrefix(line, "v,") {
			return "Qibixx MDB adapter, " + printable(line[2:]), true
		}
	}
	return "", false
}

func board(got []byte) (string, bool) {
	return "Modbus relay board at address 1", len(got) == 6 && got[0] == 1 && got[1] == 1 && got[2] == 1
}

func dex(got []byte) (string, bool) {
	return "a vending controller's DEX port", len(got) >= 2 && got[0] == 0x10 && (got[1] == 0x30 || got[1] == 0x31)
}

// block is a controller's, as OpenRaw's ports take it.
func block(data ...byte) []byte {
	w, err := mdb.Controller(data...)
	if err != nil {
		panic(err) // of a length that is none
	}
	return mdb.Mark(w)
}

// controller hears a machine's: two blocks of it, from their first byte, which has the mode bit.
func controller(got []byte) (string, bool) {
	var u mdb.Unmark
	var whole int
	var b []mdb.Word
	for _, w := range u.Add(got) {
		if w != mdb.Break && w&mdb.Mode != 0 {
			b = nil
		}
		b = append(b, w)
		if _, err := mdb.ReadController(b); err == nil {
			whole++
			b = nil
		}
	}
	return "a machine's MDB bus, its controller asks", whole >= 2
}

func wafer(got []byte) (string, bool) {
	return "Waferstar RS232-MDB, a cashless device at a machine's bus", string(got) == "\x027F\x03"
}

// waferChanger is an answer to SETUP, a line of hex with its CHK, among others that are told without being asked.
func waferChanger(got []byte) (string, bool) {
	lines := strings.Split(string(got), "\n")
	for _, line := range lines[:len(lines)-1] {
		b, err := hex.DecodeString(strings.Join(strings.Fields(line), ""))
		switch {
		case err != nil || len(b) == 0:
		case len(b) == 1 && b[0] == mdb.NAK:
			return "Waferstar MDB-RS232, no changer answers at it", true
		case len(b) >= 8 && sumOf(b[:len(b)-1]) == b[len(b)-1]:
			return fmt.Sprintf("coin changer of level %d, units of %d, behind a Waferstar MDB-RS232", b[0], b[3]), true
		}
	}
	return "", false
}

func sumOf(b []byte) (sum byte) {
	for _, x := range b {
		sum += x
	}
	return sum
}

// cashless is READER CONFIG DATA (7.4.2).
func cashless(got []byte) (string, bool) {
	u := mdb.Unmark{Peripheral: true}
	b, err := mdb.ReadPeripheral(u.Add(got))
	if err != nil || len(b) != 8 || b[0] != 1 {
		return "", false
	}
	return fmt.Sprintf("cashless reader of level %d, country or currency %02X%02X, %d decimals", b[1], b[2], b[3], b[5]), true
}

func changer(got []byte) (string, bool) {
	u := mdb.Unmark{Peripheral: true}
	words := u.Add(got)
	if len(words) < 8 || words[len(words)-1]&mdb.Mode == 0 {
		return "", false
	}
	return fmt.Sprintf("coin changer of level %d, units of %d", byte(words[0]), byte(words[3])), true
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s[:min(len(s), 80)])
}

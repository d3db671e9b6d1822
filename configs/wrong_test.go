package configs

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestWrong: every way a file can be wrong that was thought of, with what is said about it.
func TestWrong(t *testing.T) {
	t.Parallel()
	cut := func(s string) string { return strings.Replace(least, s, "", 1) }
	swap := func(a, b string) string { return strings.Replace(least, a, b, 1) }
	reader := least + "    reader:\n"
	for _, c := range []struct{ name, file, want string }{
		{"unknown key", least + "tiemouts:\n  wait: 5s\n", `f:6:1: tiemouts: unknown key; did you mean "timeouts"?`},
		{"unknown below", least + "timeouts:\n  wiat: 5s\n", `f:7:3: timeouts.wiat: unknown key; did you mean "wait"?`},
		{"capital", swap("cloud", "Cloud"), `f:3:1: Cloud: unknown key; did you mean "cloud"?`},
		{"hyphen", least + "timeouts: {vend-timeout: 5s}\n", `f:6:12: timeouts.vend-timeout: unknown key; did you mean "vend_timeout"?`},
		{"wrong level", least + "port: /dev/x\n", `f:6:1: port: unknown key; did you mean lanes[].cash.port?`},
		{"a flag's name", least + "vmc: /dev/x\n", `f:6:1: vmc: unknown key; did you mean lanes[].vending.port?`},
		{"a board of nothing", least + "board: {}\n", `f:6:1: board.door: is missing, and all else of a board too; write door, tamper, lamp, buzzer or power below board, or remove the line`},
		{"one pin twice", least + "board: {door: {pin: GPIO5}, buzzer: {pin: GPIO5}}\n", `f:6:43: board.buzzer.pin: GPIO5 is that of board.door.pin already; each has its own: check the wires`},
		{"no pin", least + "board: {door: {pin: 5}}\n", `f:6:21: board.door.pin: "5" cannot be; want the name of a pin, as GPIO5`},
		{"power of no lane", least + "board: {power: [{device: reader, lane: 3, pin: GPIO5}]}\n", `f:6:40: board.power.0.lane: there is no lane 3; the first of the list is 0`},
		{"power of one device twice", least + "board: {power: [{device: reader, pin: GPIO5}, {device: reader, pin: GPIO6}]}\n", `f:6:56: board.power.1.device: reader has a relay already; one device, one relay`},
		{"a thermometer of another make", least + "temperatures: [{name: box, driver: tmp102, id: 28-000005e2fdc3}]\n", `f:6:48: temperatures.0.id: "28-000005e2fdc3" is none of tmp102; see coinop-agent config explain temperatures`},
		{"limits", least + "temperatures: [{name: box, driver: soc, least: 9, most: 8}]\n", `f:6:48: temperatures.0.least: is not below most; check both`},
		{"one limit", least + "temperatures: [{name: box, driver: soc, least: 9}]\n", `f:6:48: temperatures.0.least: is the lower of two limits, and there is no other; write most beside it`},
		{"no likeness", least + "zzz: x\n", `f:6:1: zzz: unknown key; keys here: identity, data, cloud, currency, lanes, board, temperatures, watchdog, receipt, storage, telemetry, timeouts, screen, log`},
		{"screen for all", least + "screen: {listen: \"0.0.0.0:8480\"}\n", `f:6:18: screen.listen: others than programs of this box could order there; write 127.0.0.1 before the port`},
		{"screen, no host", least + "screen: {listen: \":8480\"}\n", `f:6:18: screen.listen: others than programs of this box could order there; write 127.0.0.1 before the port`},
		{"card first without a reader", swap("/dev/v", "/dev/v, first: card"), `f:5:36: lanes.0.vending.first: is card, and this lane has no reader; add reader: beside vending:`},
		{"a hold for nothing", swap("/dev/v", "/dev/v, hold: 5.00"), `f:5:35: lanes.0.vending.hold: is for lanes where the card comes first; write first: card beside it, or remove the line`},
		{"secret", least + "password: hunter2\n", `f:6:1: password: a secret does not belong in this file; what is secret has files of its own; remove the line`},
		{"secret below", reader + "      {pin: \"1234\"}\n", `f:7:8: lanes.0.reader.pin: a secret does not belong in this file; what is secret has files of its own; remove the line`},
		{"pem", swap("/i\n", "\"-----BEGIN PRIVATE KEY-----\"\n"), `f:1:11: identity: has a key or certificate in it; put that into a file of its own and write its path here`},
		{"user name", swap("c.example:1", "me:pw@c.example:1"), `f:3:8: cloud: has a user name in it; write host:port, as cloud.example.com:8883`},
		{"twice", least + "cloud: d.example:1\n", `f:6:1: cloud: stands twice, first in line 3; remove one of the two`},
		{"tab", least + "timeouts:\n\twait: 5s\n", "f:7:1: a tab; indent with blanks, two a step"},
		{"tab after blanks", least + "timeouts:\n \twait: 5s\n", "f:7:2: a tab; indent with blanks, two a step"},
		{"no-break space", least + "timeouts:\n\u00a0 wait: 5s\n", "f:7:1: a blank that is none (it came with a copy from a web page); type the blanks anew"},
		{"curly quotes", swap("/d", "“/d”"), `f:2:7: data: has the curly quotes of a word processor; write straight ones: "`},
		{"not UTF-8", swap("/d", "/d\xff"), "f:2:9: a byte that is not UTF-8; save the file as UTF-8"},
		{"control", swap("/d", "/d\x00"), "f:2:9: a character that cannot be seen (U+0000); delete it"},
		{"missing", cut("cloud: c.example:1\n"), `f:1:1: cloud: is missing; write "cloud: cloud.example.com:8883"`},
		{"empty", "", `f:1:1: identity: is missing; write "identity: /etc/coinop/identity"`},
		{"no lanes", strings.Split(least, "lanes")[0], `f:1:1: lanes: is missing; add "lanes:" and below it a part that begins with "- ", with vending, reader, readers, terminal, scanner, printer, audit, cash`},
		{"no parts", strings.Split(least, "lanes")[0] + "lanes: []\n", `f:4:1: lanes: is missing; add "lanes:" and below it a part that begins with "- ", with vending, reader, readers, terminal, scanner, printer, audit, cash`},
		{"no vending", swap("vending", "reader"), `f:5:5: lanes.0.vending: is missing; add a block "vending:" with driver, port, scale, first, hold, language, price_authority, products, outlets, address, relays_active, inputs_active, door, tamper`},
		{"no dash", swap("  - vending: {port: /dev/v}", "  vending: {port: /dev/v}"), `f:4:1: lanes: want a list; begin each part of it with "- " on a line below`},
		{"dash", least + "timeouts:\n  - wait: 5s\n", `f:7:3: timeouts: want keys here: wait, vend_timeout, order_timeout; remove the "-"`},
		{"empty value", swap(" /d", ""), "f:2:1: data: is empty; write a value, or remove the line"},
		{"empty block", reader, "f:6:5: lanes.0.reader: is empty; write its keys below it (driver, port, name, head, bank_cards, chip_cards, own_cards, keys_file, unproven_cards), or remove the line"},
		{"text for a block", least + "timeouts: 5s\n", `f:6:11: timeouts: want keys here: wait, vend_timeout, order_timeout; write "wait: …" on a line below, two blanks further in`},
		{"no blank after the colon", least + "timeouts:\n  wait:5s\n", `f:7:3: timeouts: a blank is missing after the colon; write "wait: …"`},
		{"block for a text", swap("/d", "{a: b}"), "f:2:7: data: want one value, not a list or block; write it on the line of the key"},
		{"relative path", swap("/d", "data"), `f:2:7: data: "data" does not begin with /; write the whole path, as /var/lib/coinop`},
		{"home", swap("/d", "~/data"), `f:2:7: data: ~ means nothing here; write the whole path, as /var/lib/coinop`},
		{"port", swap("/dev/v", "ttyUSB0"), `f:5:21: lanes.0.vending.port: "ttyUSB0" does not begin with /; write the whole path, as /dev/serial/by-id/usb-Qibixx_MDB-HAT_0-if00, or auto`},
		{"scheme", swap("c.example:1", "mqtts://c.example:1/"), `f:3:8: cloud: "mqtts://" does not belong here; write "c.example:1"`},
		{"no port", swap("c.example:1", "c.example"), `f:3:8: cloud: "c.example" has no port; write host:port, as cloud.example.com:8883`},
		{"port range", swap("c.example:1", "c.example:70000"), `f:3:8: cloud: "70000" is no port; write 1 to 65535`},
		{"no host", swap("c.example:1", ":1"), `f:3:8: cloud: ":1" has no host; write host:port, as cloud.example.com:8883`},
		{"currency", least + "currency: euro\n", `f:6:11: currency: "euro" is no currency; write its three capital letters, as EUR`},
		{"size without a unit", least + "storage: {ballast: 64}\n", "f:6:20: storage.ballast: 64 has no unit; write 64MB; 0MB to 1GB may be"},
		{"size", least + "storage: {stop_below: 64 MiB}\n", `f:6:23: storage.stop_below: "64 MiB" is no size; write a whole number and MB or GB, as 48MB; 32MB to 999GB may be`},
		{"size too small", least + "storage: {stop_below: 8MB}\n", "f:6:23: storage.stop_below: 8MB is too little; 32MB to 999GB may be"},
		{"nobody warned", least + "storage: {warn_below: 64MB, stop_below: 1GB}\n", "f:6:23: storage.warn_below: is below storage.stop_below: nobody would be warned; write more than that, as 128MB"},
		{"unit", least + "timeouts: {wait: 10}\n", "f:6:18: timeouts.wait: 10 has no unit; write 10s for seconds; 5s to 28s may be"},
		{"time", least + "timeouts: {wait: 10 sec}\n", `f:6:18: timeouts.wait: "10 sec" is no time; write a number and a unit, as 10s or 1m30s; 5s to 28s may be`},
		{"too short", least + "timeouts: {wait: 1s}\n", "f:6:18: timeouts.wait: 1s is too short; 5s to 28s may be"},
		{"too long", least + "timeouts: {wait: 1h}\n", "f:6:18: timeouts.wait: 1h is too long; 5s to 28s may be"},
		{"too fine", least + "timeouts: {wait: 5.0001s}\n", "f:6:18: timeouts.wait: 5.0001s is finer than a millisecond; 5s to 28s may be"},
		{"enum", least + "log: {format: jsno}\n", `f:6:15: log.format: "jsno" is not known; did you mean "json"? There is text, json`},
		{"driver", swap("port: /dev/v", "driver: nayax"), `f:5:23: lanes.0.vending.driver: "nayax" is not known; write qibixx or waferstar or mdb-raw or relay-board or gpio`},
		{"comma", swap("port: /dev/v", "scale: '0,05'"), `f:5:22: lanes.0.vending.scale: "0,05" has a comma; write 0.05`},
		{"money", swap("port: /dev/v", "scale: 5 ct"), `f:5:22: lanes.0.vending.scale: "5 ct" is no amount of money; write auto, or what one MDB unit is worth, as 0.05`},
		{"language", swap("port: /dev/v", "language: deu"), `f:5:25: lanes.0.vending.language: "deu" cannot be; want two letters of ISO 639, as de`},
		{"nothing", swap("port: /dev/v", "scale: 0.00"), `f:5:22: lanes.0.vending.scale: is nothing; write auto, or what one MDB unit is worth, as 0.05`},
		{"stripes at a contactless reader", reader + "      bank_cards: none\n", "f:7:19: lanes.0.reader.bank_cards: is for a reader of stripes, and the driver is vivopay; write driver: magstripe, or remove the line"},
		{"a trigger of a keyboard", least + "    scanner: {driver: keyboard, trigger: newland}\n", "f:6:42: lanes.0.scanner.trigger: is for a scanner at a serial port, and the driver is keyboard; remove the line, and set the scanner to look by itself"},
		{"a range the wrong way round", reader + "      {driver: magstripe, own_cards: [600099-600000]}\n", `f:7:27: lanes.0.reader.own_cards: "600099-600000" is no range of first digits; as many digits on both sides, the smaller first: 600000-600099`},
		{"a chip at a port that does not say so", reader + "      driver: pn532\n", "f:6:5: lanes.0.reader.port: a serial port does not say that a pn532 hangs at it; write the path; ls -l /dev/serial/by-id shows what is there; I2C is /dev/i2c-1"},
		{"a port of pcscd's", reader + "      driver: pcsc\n      port: /dev/r\n", "f:8:13: lanes.0.reader.port: is for readers at a port, and pcscd has that of this one; write name: with the reader's name, or remove the line"},
		{"a name at a port", reader + "      {port: /dev/r, name: ACR122U}\n", "f:7:28: lanes.0.reader.name: is for a reader behind pcscd, and the driver is vivopay; write driver: pcsc, or remove the line"},
		{"unproven cards at a reader of a bank's", reader + "      unproven_cards: taken\n", "f:7:23: lanes.0.reader.unproven_cards: is for closed-loop cards with a chip, and the driver is vivopay; write driver: pn532 or pcsc, or remove the line"},
		{"keys of no closed-loop reader", reader + "      keys_file: /k\n", "f:7:18: lanes.0.reader.keys_file: is for closed-loop cards, and the driver is vivopay; write driver: pn532 or pcsc, or remove the line"},
		{"a second reader at the first's port", reader + "      port: /dev/r\n    readers: [{driver: pn532, port: /dev/r}]\n", "f:8:37: lanes.0.readers.0.port: /dev/r is the port of lanes.0.reader.port already; one port, one device: check which is which"},
		{"a third at the second's port", reader + "      port: /dev/r\n    readers:\n      - {driver: pn532, port: /dev/q}\n      - {driver: magstripe, port: /dev/q}\n", "f:10:35: lanes.0.readers.1.port: /dev/q is the port of lanes.0.readers.0.port already; one port, one device: check which is which"},
		{"two readers by themselves", reader + "      {driver: vivopay}\n    readers: [{driver: vivopay}]\n", "f:8:15: lanes.0.readers.0.port: auto cannot tell two of vivopay apart, lanes.0.reader.port has one too; write the path of each; ls -l /dev/serial/by-id shows them"},
		{"a second reader's chip at a port that does not say so", reader + "      port: /dev/r\n    readers: [{driver: pn532}]\n", "f:8:15: lanes.0.readers.0.port: a serial port does not say that a pn532 hangs at it; write the path; ls -l /dev/serial/by-id shows what is there; I2C is /dev/i2c-1"},
		{"stripes at a second reader without", reader + "      port: /dev/r\n    readers: [{port: /dev/q, bank_cards: none}]\n", "f:8:42: lanes.0.readers.0.bank_cards: is for a reader of stripes, and the driver is vivopay; write driver: magstripe, or remove the line"},
		{"chips at a third reader without", reader + "      port: /dev/r\n    readers: [{port: /dev/q}, {driver: pcsc, chip_cards: taken}]\n", "f:8:58: lanes.0.readers.1.chip_cards: is for a reader that has a head for stripes, and the driver is pcsc; write driver: magstripe or vivopay, or remove the line"},
		{"keys of no closed-loop second reader", reader + "      port: /dev/r\n    readers: [{port: /dev/q, keys_file: /k}]\n", "f:8:41: lanes.0.readers.0.keys_file: is for closed-loop cards, and the driver is vivopay; write driver: pn532 or pcsc, or remove the line"},
		{"a fourth reader", reader + "      port: /dev/r\n    readers: [{port: /dev/q}, {port: /dev/s}, {port: /dev/t}]\n", "f:8:5: lanes.0.readers: has 3 parts; 2 is the most"},
		{"no list of readers", least + "    readers: {port: /dev/q}\n", `f:6:5: lanes.0.readers: want a list; begin each part of it with "- " on a line below`},
		{"more readers than none", least + "    readers: [{driver: vivopay}]\n", "f:6:24: lanes.0.readers.0.driver: is beside a first reader, and there is none; write it below reader:"},
		{"more readers beside a terminal", least + "    readers: [{port: /dev/q}]\n    terminal: {address: \"a:1\"}\n", "f:7:25: lanes.0.terminal.address: stands beside reader, which it is in place of; remove one of the two"},
		{"power of a fourth reader", least + "board: {power: [{device: reader 4, pin: GPIO5}]}\n", `f:6:26: board.power.0.device: "reader 4" is not known; did you mean "reader 2"? There is reader, reader 2, reader 3, terminal, printer, cash, vmc, outlets, dex, scanner`},
		{"one port twice", reader + "      port: /dev/v\n", "f:7:13: lanes.0.reader.port: /dev/v is the port of lanes.0.vending.port already; one port, one device: check which is which"},
		{"auto twice", swap("port: /dev/v", "port: auto") + "  - vending: {port: auto}\n", "f:6:21: lanes.1.vending.port: auto cannot tell two of qibixx apart, lanes.0.vending.port has one too; write the path of each; ls -l /dev/serial/by-id shows them"},
		{"cash without a port", least + "    cash: {owner: agent}\n", "f:6:19: lanes.0.cash.owner: is agent, and no port is named; write port: with the path of the changer's bus below it"},
		{"cash of the machine's with a port", least + "    cash: {port: /dev/x}\n", "f:6:18: lanes.0.cash.port: is for a changer of ours, and the owner is vmc; write owner: agent, or remove the line"},
		{"cash at the machine's port", least + "    cash: {owner: agent, port: /dev/v}\n", "f:6:32: lanes.0.cash.port: /dev/v is the port of lanes.0.vending.port already; one port, one device: check which is which"},
		{"terminal and reader", reader + "      port: /dev/r\n    terminal: {address: 10.0.0.2:20007}\n", "f:8:25: lanes.0.terminal.address: stands beside reader, which it is in place of; remove one of the two"},
		{"terminal and cash", least + "    terminal: {address: 10.0.0.2:20007}\n    cash: {owner: agent, port: /dev/x}\n", "f:6:25: lanes.0.terminal.address: stands beside cash of ours, and a machine with a controller cannot say which of the two its buyer wants; remove one of the two"},
		{"one terminal twice", least + "    terminal: {address: 10.0.0.2:20007}\n  - vending: {port: /dev/w}\n    terminal: {address: 10.0.0.2:20007}\n", "f:8:25: lanes.1.terminal.address: 10.0.0.2:20007 is the terminal of lanes.0 already; one terminal, one lane"},
		{"terminal without an address", least + "    terminal: {driver: zvt}\n", `f:6:5: lanes.0.terminal.address: is missing; write "address: 192.168.1.40:20007"`},
		{"reader at a bus without a port", least + "    terminal: {driver: mdb}\n", "f:6:5: lanes.0.terminal.port: is missing; write port: with the path of the reader's bus; ls -l /dev/serial/by-id shows what is there"},
		{"reader at a bus, auto", least + "    terminal: {driver: mdb, port: auto}\n", "f:6:35: lanes.0.terminal.port: a serial port does not say that a reader's bus hangs at it; write the path; ls -l /dev/serial/by-id shows what is there"},
		{"reader at a bus and an address", least + "    terminal: {driver: mdb, port: /dev/m, address: 10.0.0.2:20007}\n", "f:6:52: lanes.0.terminal.address: is for a terminal in the network, and the driver is mdb; remove the line"},
		{"reader at a bus and holds", least + "    terminal: {driver: mdb, port: /dev/m, payment: hold}\n", "f:6:52: lanes.0.terminal.payment: is hold, and a reader at a bus charges all of what it approved, or nothing; remove the line"},
		{"reader at the port of another", least + "    terminal: {driver: mdb, port: /dev/m}\n  - vending: {port: /dev/m}\n", "f:7:21: lanes.1.vending.port: /dev/m is the port of lanes.0.terminal.port already; one port, one device: check which is which"},
		{"terminal with a port", least + "    terminal: {address: 10.0.0.2:20007, port: /dev/m}\n", "f:6:47: lanes.0.terminal.port: is for a reader at a bus, and the driver is zvt; write driver: mdb, or remove the line"},
		{"terminal without a port", least + "    terminal: {address: 10.0.0.2}\n", `f:6:25: lanes.0.terminal.address: "10.0.0.2" has no port; write host:port, as 192.168.1.40:20007`},
		{"too many", least + strings.Repeat("  - vending: {port: /dev/v}\n", 16), "f:4:1: lanes: has 17 parts; 16 is the most"},
		{"anchor", swap("/d", "&x /d"), "f:2:7: data: & and * are not understood here; write the value out"},
		{"alias", swap("/d", "*x"), "f:2:1: & and * are not understood here; write the value out"},
		{"merge", least + "<<: {log: {format: json}}\n", "f:6:1: <<: << is not understood here; write the values out"},
		{"tag", swap("/d", "!!binary aGVsbG8="), "f:2:7: data: begins with !; put the value in quotes"},
		{"block text", swap("/d", "|\n  /d"), "f:2:7: data: | and > are not understood here; write the value on one line"},
		{"second document", least + "---\nlog: {}\n", "f:6:1: a second document begins here; one file, one configuration: remove --- and what follows"},
		{"indent", least + "timeouts:\n  wait: 5s\n   order_timeout: 6s\n", "f:8:4: a second colon, or this line is too far right; a value with a colon and a blank goes in quotes; keys of one block begin in the same column"},
		{"dedent", least + "timeouts:\n    wait: 5s\n  order_timeout: 6s\n", "f:8:3: this line does not begin where its block does; keys of one block begin in the same column"},
		{"open quote", swap("/d", "\"/d"), "f:2:1: a quote is not closed; close it on the same line"},
		{"only text", "hello", `f:1:1: want keys here: identity, data, cloud, currency, lanes, board, temperatures, watchdog, receipt, storage, telemetry, timeouts, screen, log; write "identity: …" on a line below, two blanks further in`},
	} {
		_, err := ParseAgent("f", []byte(c.file), nil)
		es, ok := errors.AsType[Errors](err)
		if !ok {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got, _, _ := strings.Cut(es.Error(), "\n"); got != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", c.name, got, c.want)
		}
		for _, secret := range []string{"hunter2", "1234", "PRIVATE", "me:pw"} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: prints the secret: %s", c.name, err)
			}
		}
	}
	const cloud = "dir: /x\nacquirers:\n  - {name: bank, addr: \"a:1\", institution: 1}\n"
	for _, c := range []struct{ name, file, want string }{
		{"institution", "dir: /x\nacquirers:\n  - {name: bank, addr: \"a:1\", institution: 0x1}\n", `f:3:44: acquirers.0.institution: "0x1" cannot be; want the 1 to 11 digits your acquirer gave you, as 00000000001`},
		{"no institution", "dir: /x\nacquirers:\n  - name: bank\n    addr: a:1\n", `f:3:5: acquirers.0.institution: is missing; write "institution: 00000000001"`},
		{"name twice", cloud + "  - {name: bank, addr: \"b:1\", institution: 1}\n", "f:4:12: acquirers.1.name: bank is the name of acquirer 1 already; give each link a name of its own"},
		{"bool", cloud + "    # x\n" + "  - {name: b, addr: \"b:1\", institution: 1, can_query: yes}\n", `f:5:55: acquirers.1.can_query: "yes" is neither true nor false; write true or false, without quotes`},
		{"host as text", "dir: /x\nhosts: pos\n", "f:2:8: hosts: want a list; write [pos.example.com]"},
		{"no hosts", "dir: /x\nhosts: []\n", "f:2:1: hosts: is an empty list; write [pos.example.com], or remove the line"},
		{"host", "dir: /x\nhosts: [a, 'b c']\n", `f:2:12: hosts: "b c" cannot be; want a name or an address without a port, as pos.example.com`},
		{"host twice", "dir: /x\nhosts: [a, a]\n", "f:2:1: hosts: a stands twice; write it once"},
		{"listen", "dir: /x\nlisten: 8883\n", `f:2:9: listen: "8883" has no port; write host:port, as :8883`},
	} {
		_, err := ParseCloud("f", []byte(c.file), nil)
		if got, _, _ := strings.Cut(fmt.Sprint(err), "\n"); got != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", c.name, got, c.want)
		}
	}
}

// TestAllAtOnce: one run tells everything, in the order of the file, with the line and a caret.
func TestAllAtOnce(t *testing.T) {
	t.Parallel()
	const file = `identity: identity
data: /d
clod: c.example:1
lanes:
  - vending:
      port: /dev/v
      scale: 0,05
    raeder: {port: auto}
timeouts:
  wait: 1s
log:
  format: xml
`
	const want = `f:1:11: identity: "identity" does not begin with /; write the whole path, as /etc/coinop/identity
    1 | identity: identity
      |           ^~~~~~~~
f:3:1: clod: unknown key; did you mean "cloud"?
    3 | clod: c.example:1
      | ^~~~
f:7:14: lanes.0.vending.scale: "0,05" has a comma; write 0.05
    7 |       scale: 0,05
      |              ^~~~
f:8:5: lanes.0.raeder: unknown key; did you mean "reader"?
    8 |     raeder: {port: auto}
      |     ^~~~~~
f:10:9: timeouts.wait: 1s is too short; 5s to 28s may be
   10 |   wait: 1s
      |         ^~
f:12:11: log.format: "xml" is not known; write text or json
   12 |   format: xml
      |           ^~~`
	if _, err := ParseAgent("f", []byte(file), nil); fmt.Sprint(err) != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

// TestHostile: the worst of the largest file costs little.
func TestHostile(t *testing.T) {
	t.Parallel()
	start := time.Now()
	for _, s := range []string{
		"{" + strings.Repeat("clout: 1,", 20000) + "}", strings.Repeat("x", maxFile), strings.Repeat("[", 9000),
		"{" + strings.Repeat("aé: 1,", 20000), strings.Repeat("\t\n", 100000), strings.Repeat("- ", 9000), "x: '" + strings.Repeat("\xff", 1000),
	} {
		if _, err := ParseAgent("f", []byte(s), nil); err == nil || len(err.Error()) > 50*1000 {
			t.Errorf("%.20q: %.500v", s, err)
		}
	}
	if d := time.Since(start); d > 20*time.Second {
		t.Errorf("took %v", d)
	}
}

// FuzzLoad: nothing makes the reader panic, and every problem has a place in the file.
func FuzzLoad(f *testing.F) {
	entries, _ := Examples.ReadDir(".")
	for _, e := range entries {
		data, _ := Examples.ReadFile(e.Name())
		f.Add(data)
	}
	for _, s := range []string{least, "", "a: [", "{", "- - -", "? a\n: b", "lanes: [[[]]]", "lanes: [1, {vending: 1}, null]", "\xef\xbb\xbf\n", "a: &a [*a]", "--- |\n x", "%YAML 9\n---\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		check := func(err error) {
			es, ok := errors.AsType[Errors](err)
			if err != nil && (!ok || len(es) == 0) {
				t.Fatalf("%T %v", err, err)
			}
			lines := strings.Count(string(data), "\n") + 1
			for _, p := range es {
				if p.Name != "f" || p.Line < 1 || p.Line > lines || p.Column < 1 || p.What == "" || p.Error() == "" {
					t.Fatalf("%+v", p)
				}
			}
		}
		_, err := ParseAgent("f", data, nil)
		check(err)
		_, err = ParseCloud("f", data, nil)
		check(err)
	})
}

// TestWrongOutlets: every way a lane's own outlets can be wrong, each at its place.
func TestWrongOutlets(t *testing.T) {
	t.Parallel()
	file := func(driver, more, outlets string) string {
		return "identity: /i\ndata: /d\ncloud: c.example:1\nlanes:\n  - vending:\n      driver: " + driver + "\n      port: /dev/v\n" + more +
			"      outlets:\n" + outlets
	}
	const first = "        - {number: 1, name: Washer, price: 3.00, relay: 1, feedback: 1, button: 2}\n"
	pin := strings.NewReplacer("relay: 1", "relay: GPIO5", "feedback: 1", "feedback: GPIO6", "button: 2", "button: GPIO7").Replace(first)
	for _, good := range []string{
		file("relay-board", "", first), file("gpio", "      relays_active: low\n      inputs_active: low\n", pin),
		file("gpio", "", strings.Replace(pin, "name: W", "on: 50ms, name: W", 1)),
	} {
		if _, err := ParseAgent("f", []byte(good), nil); err != nil {
			t.Errorf("%s\n%v", good, err)
		}
	}
	second := func(s string) string {
		return file("relay-board", "", first+"        - {number: 2, name: Dryer, price: 1.00, "+s+"}\n")
	}
	for _, c := range []struct{ name, file, want string }{
		{"a vending machine", file("qibixx", "", first), `f:6:15: lanes.0.vending.driver: qibixx is a machine that switches its outlets itself; write relay-board or gpio`},
		{"none", strings.Replace(file("relay-board", "", ""), "      outlets:\n", "", 1), `f:6:15: lanes.0.vending.driver: relay-board has no outlets; list them`},
		{"products", file("relay-board", "      products: [{item: 1, name: x}]\n", first), `products: belong to a machine with prices of its own`},
		{"address", file("relay-board", "      address: 248\n", first), `f:8:16: lanes.0.vending.address: 248 is no address of a board; write 1 to 247`},
		{"door and button", file("relay-board", "      door: 5\n      tamper: 05\n", first), `lanes.0.vending.tamper: 5 is that of door already; each has its own`},
		{"door at a pin", file("gpio", "      door: 7\n", pin), `lanes.0.vending.door: 7 is no pin; write its name, as GPIO17`},
		{"door of a machine", strings.Replace(file("qibixx", "      door: 7\n", ""), "      outlets:\n", "", 1), `lanes.0.vending.driver: qibixx has no inputs for a door or a tamper loop`},
		{"low board", file("relay-board", "      relays_active: low\n", first), `lanes.0.vending.relays_active: a board's relay is on when it is told`},
		{"number twice", second("relay: 2, number: 1"), `number: stands twice`},
		{"same number", strings.Replace(second("relay: 2"), "number: 2", "number: 01", 1), `f:10:20: lanes.0.vending.outlets.1.number: 1 is that of Washer already`},
		{"same relay", second("relay: 1"), `f:10:56: lanes.0.vending.outlets.1.relay: 1 is that of Washer already; each has its own`},
		{"same input", second("relay: 2, button: 1"), `lanes.0.vending.outlets.1.button: 1 is that of Washer already`},
		{"pin at a board", second("relay: GPIO17"), `lanes.0.vending.outlets.1.relay: GPIO17 is nothing at a board; write the number that is printed`},
		{"number at pins", file("gpio", "", first), `lanes.0.vending.outlets.0.relay: 1 is no pin; write its name, as GPIO17`},
		{"a pin for two", file("gpio", "", strings.Replace(pin, "GPIO6", "GPIO5", 1)), `lanes.0.vending.outlets.0.feedback: GPIO5 is that of Washer already`},
		{"relay 33", second("relay: 33"), `33 is nothing at a board`},
		{"between", second("relay: 2, on: 250ms"), `outlets.1.on: 250ms is no number of 100ms, which is what it counts in; write 200ms or 300ms`},
		{"too short", second("relay: 2, on: 1ms"), `outlets.1.on: 1ms is too short; 20ms to 5m may be`},
		{"max_on", second("relay: 2, on: 20s"), `outlets.1.on: 20s is longer than max_on, 10s; check both`},
		{"takes too long", second("relay: 2, pulses: 200"), `outlets.1.pulses: with their pauses and window they take up to 1m21s, and timeouts.vend_timeout is 1m0s`},
		{"no pulses", second("relay: 2, pulses: 0"), `outlets.1.pulses: are none`},
		{"always, one of two", second("relay: 2, always: true"), `outlets.1.always: there are other outlets`},
		{"no price", file("relay-board", "", strings.Replace(first, " price: 3.00,", "", 1)), `outlets.0.price: is missing`},
	} {
		_, err := ParseAgent("f", []byte(c.file), nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s:\n  got  %v\n  want %s", c.name, err, c.want)
		}
	}
}

package mdb

import (
	"errors"
	"fmt"
)

// Word is one character of the bus: eight bits of data and the mode bit (MDB/ICP 4.2, section 2).
type Word = uint16

// Mode marks the address byte of the controller's block, and the last byte of a peripheral's.
const Mode Word = 0x100

// BlockMax is the longest block, its CHK included (MDB/ICP 4.2, section 2).
const BlockMax = 36

// Lone bytes; RET is the controller's alone.
const (
	ACK = 0x00
	RET = 0xAA
	NAK = 0xFF
)

// Why words are not a block.
var (
	ErrChecksum = errors.New("mdb: bad checksum")
	ErrBlock    = errors.New("mdb: not a block")
	ErrNAK      = errors.New("mdb: not acknowledged")
)

func chk(b []byte) (sum byte) {
	for _, x := range b {
		sum += x
	}
	return sum
}

// Controller is a block of the controller's: data is address byte and what follows.
func Controller(data ...byte) ([]Word, error) {
	w, err := words(data)
	if err == nil {
		w[0] |= Mode
	}
	return w, err
}

// Peripheral is a block of a peripheral's; with no data it is the lone ACK.
func Peripheral(data ...byte) ([]Word, error) {
	if len(data) == 0 {
		return []Word{ACK | Mode}, nil
	}
	w, err := words(data)
	if err == nil {
		w[len(w)-1] |= Mode
	}
	return w, err
}

func words(data []byte) ([]Word, error) {
	if len(data) == 0 || len(data) >= BlockMax {
		return nil, fmt.Errorf("%w: %d bytes", ErrBlock, len(data))
	}
	w := make([]Word, 0, len(data)+1)
	for _, b := range data {
		w = append(w, Word(b))
	}
	return append(w, Word(chk(data))), nil
}

// ReadController takes a whole block of the controller's apart: address byte and data, without CHK.
func ReadController(w []Word) ([]byte, error) {
	return read(w, 0)
}

// ReadPeripheral takes a peripheral's apart. A lone ACK is no data; a lone NAK is ErrNAK. 00 00 with
// the mode bit on the second is JUST RESET: data 00.
func ReadPeripheral(w []Word) ([]byte, error) {
	if len(w) == 1 {
		switch w[0] {
		case ACK | Mode:
			return nil, nil
		case NAK | Mode:
			return nil, ErrNAK
		}
		return nil, ErrBlock
	}
	return read(w, len(w)-1)
}

// read checks length, the one mode bit and the sum.
func read(w []Word, mode int) ([]byte, error) {
	if len(w) < 2 || len(w) > BlockMax {
		return nil, fmt.Errorf("%w: %d words", ErrBlock, len(w))
	}
	b := make([]byte, len(w))
	for i, x := range w {
		if x > 0x1FF || (x&Mode != 0) != (i == mode) {
			return nil, fmt.Errorf("%w: mode bit of word %d", ErrBlock, i)
		}
		b[i] = byte(x)
	}
	data := b[:len(b)-1]
	if chk(data) != b[len(b)-1] {
		return nil, ErrChecksum
	}
	return data, nil
}

// Command is what a controller asks of a cashless device: command and subcommand as in MDB/ICP 4.2,
// 7.4, table 1, of device 1 (the second's addresses are 50h higher).
type Command uint16

// Commands. Those without a subcommand end in FF.
const (
	Reset           Command = 0x10FF
	SetupConfig     Command = 0x1100
	SetupPrices     Command = 0x1101
	Poll            Command = 0x12FF
	VendRequest     Command = 0x1300
	VendCancel      Command = 0x1301
	VendSuccess     Command = 0x1302
	VendFailure     Command = 0x1303
	SessionComplete Command = 0x1304
	CashSale        Command = 0x1305
	NegativeVend    Command = 0x1306
	ReaderDisable   Command = 0x1400
	ReaderEnable    Command = 0x1401
	ReaderCancel    Command = 0x1402
	DataEntry       Command = 0x1403
	Revalue         Command = 0x1500
	RevalueLimit    Command = 0x1501
	RequestID       Command = 0x1700
	WriteTime       Command = 0x1703
	EnableOptions   Command = 0x1704
	Diagnostics     Command = 0x17FF // of any length
)

// sizes are a command's bytes from the address on, without CHK: plain, and in expanded currency mode.
var sizes = map[Command][2]int{
	Reset: {1, 1}, SetupConfig: {6, 6}, SetupPrices: {6, 12}, Poll: {1, 1}, VendRequest: {6, 8}, VendCancel: {2, 2},
	VendSuccess: {4, 4}, VendFailure: {2, 2}, SessionComplete: {2, 2}, CashSale: {6, 10}, NegativeVend: {6, 8},
	ReaderDisable: {2, 2}, ReaderEnable: {2, 2}, ReaderCancel: {2, 2}, DataEntry: {10, 10}, Revalue: {4, 6}, RevalueLimit: {2, 2},
	RequestID: {31, 31}, WriteTime: {12, 12}, EnableOptions: {6, 6},
}

// Asked is a command with its money and item, where it has them.
type Asked struct {
	Command Command
	Second  bool   // to the second cashless device
	Units   uint32 // price or amount, in units of the bus
	Item    uint16
	Data    []byte // after command and subcommand
}

// ParseCommand reads a controller's data (ReadController). expanded says that money has four bytes:
// options b1 or b2 are enabled. What it does not know, or of another length, is ErrBlock: the device
// acknowledges it, does not execute it, and answers 0B.
func ParseCommand(data []byte, expanded bool) (Asked, error) {
	if len(data) == 0 {
		return Asked{}, ErrBlock
	}
	a := Asked{Second: data[0]&0xF8 == 0x60}
	if !a.Second && data[0]&0xF8 != 0x10 {
		return Asked{}, fmt.Errorf("%w: address %02X", ErrBlock, data[0])
	}
	a.Command = Command(0x10|data[0]&7)<<8 | 0xFF
	if a.Command == Diagnostics && len(data) > 1 && data[1] == 0xFF && len(data) < BlockMax {
		a.Data = data[2:]
		return a, nil
	}
	head := 1
	if _, alone := sizes[a.Command]; !alone {
		if len(data) < 2 {
			return Asked{}, fmt.Errorf("%w: no subcommand", ErrBlock)
		}
		a.Command, head = a.Command&0xFF00|Command(data[1]), 2
	}
	size, known := sizes[a.Command]
	want := size[0]
	if expanded {
		want = size[1]
	}
	// The second 11 01 is the long one also where the mode is on; the first is always short (7.4, SETUP).
	short := a.Command == SetupPrices && len(data) == size[0]
	if !known || len(data) != want && !short {
		return Asked{}, fmt.Errorf("%w: %04X with %d bytes", ErrBlock, uint16(a.Command), len(data))
	}
	a.Data = data[head:]
	money := 2
	if expanded {
		money = 4
	}
	switch a.Command {
	case VendRequest, CashSale, NegativeVend:
		a.Units = number(a.Data[:money])
		a.Item = uint16(number(a.Data[money : money+2])) //nolint:gosec // two bytes
	case Revalue:
		a.Units = number(a.Data[:money])
	case VendSuccess:
		a.Item = uint16(number(a.Data)) //nolint:gosec // two bytes
	}
	return a, nil
}

func number(b []byte) (n uint32) {
	for _, x := range b {
		n = n<<8 | uint32(x)
	}
	return n
}

// Format is what the lengths of a cashless device's answers depend on.
type Format struct {
	Level    uint8 // common level, 1 to 3
	Expanded bool  // four bytes of money
	Display  int   // characters of the display, columns times rows
}

// Split cuts a cashless device's data into its answers: several of fixed length may come in one block
// (MDB/ICP 4.2, section 2; 7.3.1 has an example). ErrBlock for what it does not know or what is cut short.
func Split(data []byte, f Format) ([][]byte, error) {
	var out [][]byte
	for len(data) > 0 {
		n := answerSize(data, f)
		if n == 0 || n > len(data) {
			return nil, fmt.Errorf("%w: answer %02X with %d bytes", ErrBlock, data[0], len(data))
		}
		out, data = append(out, data[:n]), data[n:]
	}
	return out, nil
}

func answerSize(data []byte, f Format) int {
	pick := func(plain, expanded int) int {
		if f.Expanded {
			return expanded
		}
		return plain
	}
	switch data[0] {
	case 0x00, 0x04, 0x06, 0x07, 0x08, 0x0D, 0x0E, 0x11, 0x13:
		return 1
	case 0x01:
		return 8
	case 0x02:
		return 2 + min(f.Display, 32)
	case 0x03:
		if f.Level < 2 {
			return 3
		}
		return pick(10, 17)
	case 0x05, 0x0F:
		return pick(3, 5)
	case 0x09:
		if f.Level >= 3 {
			return 34
		}
		return 30
	case 0x0A, 0x12:
		return 2
	case 0x0B:
		if f.Level < 2 {
			return 1
		}
		return 2
	case 0x1B, 0x1F:
		return 6
	case 0x1C:
		return 4
	case 0x1E:
		return 3
	case 0x1D, 0xFF:
		return len(data)
	}
	return 0
}

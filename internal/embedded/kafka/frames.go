package kafka

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
)

// formatVersion is the version of the broker's files that recovery understands.
const formatVersion = 1

// frameHeader is what precedes an entry of the broker's logs of groups and producers: length and
// checksum of what follows, then the version, all little-endian. The length counts the version.
const frameHeader = 10

func castagnoli(data []byte) uint32 {
	return crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))
}

// appendFrame adds one entry to dst.
func appendFrame(dst []byte, value any) ([]byte, error) {
	data, err := json.Marshal(value)
	if err != nil {
		return dst, fmt.Errorf("encoding a log entry: %w", err)
	}
	body := binary.LittleEndian.AppendUint16(nil, formatVersion)
	body = append(body, data...)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(body)))
	dst = binary.LittleEndian.AppendUint32(dst, castagnoli(body))
	return append(dst, body...), nil
}

// frame is one entry of a log and where it starts.
type frame struct {
	at   int64
	data []byte
}

// splitFrames returns the entries of a log up to the first damaged one, and their total length.
func splitFrames(raw []byte) (frames []frame, valid int64) {
	for pos := 0; pos+frameHeader <= len(raw); {
		length := int(binary.LittleEndian.Uint32(raw[pos:]))
		end := pos + 8 + length
		if length < 2 || end < pos || end > len(raw) {
			break
		}
		body := raw[pos+8 : end]
		if castagnoli(body) != binary.LittleEndian.Uint32(raw[pos+4:]) {
			break
		}
		frames = append(frames, frame{at: int64(pos), data: body[2:]})
		pos = end
		valid = int64(end)
	}
	return frames, valid
}

// readFrames reads a log and cuts off a damaged end, behind which the broker would go on writing
// what it then could not read again.
func readFrames(path string) ([]frame, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	frames, valid := splitFrames(raw)
	if valid < int64(len(raw)) {
		if err := os.Truncate(path, valid); err != nil {
			return nil, fmt.Errorf("cutting off a damaged end: %w", err)
		}
	}
	return frames, nil
}

// appendToFile adds bytes to the end of a file.
func appendToFile(path string, data []byte) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	return errors.Join(err, file.Sync(), file.Close())
}

// writeFile replaces a file in one step.
func writeFile(path string, data []byte) error {
	temp := path + ".tmp"
	file, err := os.OpenFile(temp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(temp, path)
}

func writeJSON(path string, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return writeFile(path, data)
}

// readJSON reports whether the file exists.
func readJSON(path string, value any) (bool, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(data, value); err != nil {
		return false, fmt.Errorf("decoding %s: %w", path, err)
	}
	return true, nil
}

package clickhouse

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

// The users of the server. The admin may do everything, the reader only SELECT.
const (
	adminUser  = "auditmill"
	readerUser = "reader"
)

// The files and directories below Config.Dir.
const (
	lockFile     = "lock"
	dataDir      = "data"
	serverDir    = "server"
	secretsDir   = "secrets"
	configFile   = "config.xml"
	usersFile    = "users.xml"
	serverLog    = "server.log"
	keeperMarker = "auditmill-keeper"
)

var (
	//go:embed config.xml.tmpl
	configTemplate string
	//go:embed users.xml.tmpl
	usersTemplate string
)

// credentials are the passwords of one data directory. They are kept in it, so that what was
// pointed at the server yesterday still works today.
type credentials struct {
	admin, reader string
}

// layout prepares the private directories and returns the passwords.
func layout(dir string) (credentials, error) {
	for _, sub := range []string{dataDir, serverDir, secretsDir} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return credentials{}, fmt.Errorf("creating the data directory: %w", err)
		}
	}
	var creds credentials
	for user, target := range map[string]*string{adminUser: &creds.admin, readerUser: &creds.reader} {
		password, err := loadPassword(filepath.Join(dir, secretsDir, user))
		if err != nil {
			return credentials{}, err
		}
		*target = password
	}
	return creds, nil
}

func loadPassword(path string) (string, error) {
	text, err := os.ReadFile(path)
	switch {
	case err == nil && len(bytes.TrimSpace(text)) > 0:
		return string(bytes.TrimSpace(text)), nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("reading a password: %w", err)
	}
	password := rand.Text()
	if err := writeFile(path, []byte(password+"\n")); err != nil {
		return "", fmt.Errorf("writing a password: %w", err)
	}
	return password, nil
}

// writeFile replaces a private file in one step.
func writeFile(path string, content []byte) error {
	temp := path + ".tmp"
	if err := os.WriteFile(temp, content, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, path)
}

// serverFiles is what the templates see.
type serverFiles struct {
	Users               string
	HTTPPort, TCPPort   int
	Native              bool
	MaxMemory           int64
	MarkCache           int64
	AdminUser, Admin    string
	ReaderUser, Reader  string
	StartupStatements   int
	KeeperQuotaInterval int64
}

// writeServerFiles writes the server's own configuration. Passwords go in as hashes.
func writeServerFiles(cfg Config, creds credentials, httpPort, tcpPort int) error {
	dir := filepath.Join(cfg.Dir, serverDir)
	data := serverFiles{
		Users:      filepath.Join(dir, usersFile),
		HTTPPort:   httpPort,
		TCPPort:    tcpPort,
		Native:     cfg.Native,
		MaxMemory:  cfg.MaxMemory,
		MarkCache:  cfg.MarkCache,
		AdminUser:  adminUser,
		Admin:      hash(creds.admin),
		ReaderUser: readerUser,
		Reader:     hash(creds.reader),
		// Poco parses the interval as an int32 number of seconds: 63 years.
		KeeperQuotaInterval: 2_000_000_000,
		StartupStatements:   len(statements(cfg.Native)),
	}
	for name, text := range map[string]string{configFile: configTemplate, usersFile: usersTemplate} {
		tmpl, err := template.New(name).Funcs(template.FuncMap{"xml": escapeXML}).Parse(text)
		if err != nil {
			return fmt.Errorf("parsing the template of %s: %w", name, err)
		}
		var out bytes.Buffer
		if err := tmpl.Execute(&out, data); err != nil {
			return fmt.Errorf("rendering %s: %w", name, err)
		}
		if err := writeFile(filepath.Join(dir, name), out.Bytes()); err != nil {
			return fmt.Errorf("writing %s: %w", name, err)
		}
	}
	return nil
}

func hash(password string) string {
	sum := sha256.Sum256([]byte(password))
	return hex.EncodeToString(sum[:])
}

func escapeXML(text string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(text)
}

// statements are run by the engine inside the child: they open the ports and then keep the
// process busy, because the engine ends with its last statement.
func statements(native bool) []string {
	list := []string{"SYSTEM START LISTEN HTTP"}
	if native {
		list = append(list, "SYSTEM START LISTEN TCP")
	}
	return append(list, "SELECT count(sleepEachRow(0.2)) FROM numbers(9223372036854775807)"+
		" SETTINGS max_block_size = 1, max_threads = 1, log_comment = '"+keeperMarker+"'")
}

// engineArgs is the command line of the engine.
func engineArgs(cfg Config) []string {
	dir := filepath.Join(cfg.Dir, serverDir)
	return []string{
		"clickhouse",
		"--config-file=" + filepath.Join(dir, configFile),
		"--path=" + filepath.Join(cfg.Dir, dataDir),
		"--log-level=warning",
		"--query=" + strings.Join(statements(cfg.Native), "; "),
	}
}

# Shared by start and stop: which process is the broker of a node's directory. To be sourced.

# broker_is PID NODE: whether PID lives and is the broker of NODE. A pid file outlives a kill -9,
# and its number may meanwhile belong to somebody else.
broker_is() {
  local args
  if [[ -d /proc/self ]]; then
    args=$(tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline") || return 1
  else
    args=$(ps -o args= -p "$1") || return 1
  fi
  [[ $args == *"kafka.Kafka $2/server.properties"* ]]
}

# broker_pid NODE: prints the pid of the broker that runs on NODE, or fails.
broker_pid() {
  local pid
  pid=$(cat "$1/kafka.pid" 2>/dev/null) || return 1
  broker_is "$pid" "$1" && printf '%s\n' "$pid"
}

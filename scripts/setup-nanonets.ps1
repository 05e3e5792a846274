# Takes a fresh Windows machine to a running service, inside WSL2; see setup-nanonets.sh.
# For Windows PowerShell 5.1 and newer.
param(
    [switch]$NoStart,
    [switch]$Help
)

$ErrorActionPreference = 'Stop'
# wsl.exe writes UTF-16 unless it is told otherwise.
$env:WSL_UTF8 = '1'

function Fail([string]$Message, [string]$Hint) {
    [Console]::Error.WriteLine("error: $Message")
    [Console]::Error.WriteLine("hint: $Hint")
    exit 10
}

if ($Help) {
    @'
usage: scripts\setup-nanonets.ps1 [-NoStart] [-Help]

Runs scripts/setup-nanonets.sh in the default distribution of WSL2: it installs what is missing there,
starts the service and reads a sample page through it. Windows reaches it as http://localhost:8001.

  -NoStart   stop before the service is started
  -Help      this text
'@
    exit 0
}

if (-not (Get-Command wsl.exe -ErrorAction SilentlyContinue)) {
    Fail 'there is no wsl.exe; the service runs on Linux, here inside WSL2' 'as administrator: wsl --install'
}

# The default distribution is the line with a star: "* Ubuntu    Running    2".
$default = @(wsl.exe --list --verbose 2>$null) | Where-Object { $_ -match '^\s*\*' } | Select-Object -First 1
if (-not $default) {
    Fail 'WSL has no Linux distribution' 'as administrator: wsl --install'
}
$words = @(($default -replace '^\s*\*', '').Trim() -split '\s+')
if ($words[-1] -ne '2') {
    Fail "the default distribution $($words[0]) runs under WSL version $($words[-1]); expected 2" "wsl --set-version $($words[0]) 2"
}

$repository = Split-Path -Parent $PSScriptRoot
$folder = (wsl.exe wslpath -a ($repository -replace '\\', '/') | Out-String).Trim()
if (-not $folder) {
    Fail "WSL cannot see the folder $repository" 'clone the repository inside WSL and run scripts/setup-nanonets.sh there'
}

$arguments = @()
if ($NoStart) { $arguments += '--no-start' }
wsl.exe --cd $folder bash ./scripts/setup-nanonets.sh @arguments
exit $LASTEXITCODE

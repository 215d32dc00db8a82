#!/bin/sh
# What a package ships beside the program: completions for every shell, and manual pages. assets.sh PROGRAM FOLDER
set -eu
program=$1
folder=$2
mkdir -p "$folder/completions"
completions() { "$program" completions "$1" >"$folder/completions/$2"; }
completions bash logitcask.bash
completions zsh _logitcask
completions fish logitcask.fish
completions powershell _logitcask.ps1
completions elvish logitcask.elv
"$program" man --out "$folder/man" >/dev/null

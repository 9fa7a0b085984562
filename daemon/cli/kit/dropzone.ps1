# Sends a list to the drop zone, waits for its receipt, fetches results. Needs: age.exe, and Windows' own OpenSSH client.
# Verstuurt een lijst, wacht op het ontvangstbewijs, haalt resultaten op. Nodig: age.exe en de OpenSSH-client van Windows.
#
#   .\dropzone.ps1 send EXCHANGE FLOW FILE
#   .\dropzone.ps1 fetch EXCHANGE
#
# $env:DROPZONE_KEY       your private SSH key           (default: .ssh\id_ed25519 in your profile)
# $env:DROPZONE_IDENTITY  your age identity, to decrypt  (default: key.txt beside this script)
param([string]$Action, [string]$Exchange, [string]$Flow, [string]$File)
$ErrorActionPreference = 'Stop'

$ZoneHost = '@HOST@'
$ZonePort = '@PORT@'
$ZoneUser = '@USER@'
$Here = Split-Path -Parent $MyInvocation.MyCommand.Path
$Key = $env:DROPZONE_KEY
if (-not $Key) { $Key = Join-Path $env:USERPROFILE '.ssh\id_ed25519' }
$Identity = $env:DROPZONE_IDENTITY
if (-not $Identity) { $Identity = Join-Path $Here 'key.txt' }
$Work = Join-Path ([IO.Path]::GetTempPath()) ('dropzone-' + [Guid]::NewGuid())
New-Item -ItemType Directory -Path $Work | Out-Null

function Stop-With([string]$Text) {
    Write-Host "dropzone: $Text"
    exit 1
}

# What becomes part of a command for sftp holds nothing that sftp would read as more than a name.
function Assert-PlainName([string]$Name) {
    if ($Name -notmatch '^[A-Za-z0-9_][A-Za-z0-9._-]*$') { Stop-With "rename it to letters, digits, dots, hyphens and underscores: $Name" }
}

function Invoke-Batch([string]$Line) {
    $Batch = Join-Path $Work 'batch.txt'
    [IO.File]::WriteAllText($Batch, $Line + "`n")
    $Known = (Join-Path $Here 'known_hosts').Replace('\', '/')
    $Output = & sftp.exe -q -b $Batch -P $ZonePort -i $Key -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=yes -o "UserKnownHostsFile=`"$Known`"" "$ZoneUser@$ZoneHost"
    $script:BatchWorked = ($LASTEXITCODE -eq 0)
    return $Output
}

function Get-Names([string]$Folder) {
    $Lines = Invoke-Batch "ls -1 `"/$Folder`""
    $Names = @()
    foreach ($Line in $Lines) {
        if (-not $Line.StartsWith('sftp>')) { $Names += $Line.Split('/')[-1].Trim() }
    }
    return $Names
}

function Get-RemoteFile([string]$Path) {
    $To = $Work.Replace('\', '/')
    Invoke-Batch "get `"/$Path`" `"$To/`"" | Out-Null
    return $script:BatchWorked
}

function Test-Receipt([string]$Receipt) {
    $Signers = Join-Path $Here 'allowed_signers'
    $Text = Join-Path $Work $Receipt
    & cmd.exe /c "ssh-keygen -Y verify -f `"$Signers`" -I dropzone-zone -n receipt@dropzone -s `"$Text.sig`" < `"$Text`"" | Out-Null
    return ($LASTEXITCODE -eq 0)
}

function Send-List {
    $Name = (Split-Path -Leaf $File) + '.age'
    Assert-PlainName $Exchange
    Assert-PlainName $Flow
    Assert-PlainName $Name
    $Recipients = Join-Path $Here "recipients\$Exchange.$Flow.txt"
    $Encrypted = Join-Path $Work $Name
    & age.exe -R $Recipients -o $Encrypted $File
    if ($LASTEXITCODE -ne 0) { Stop-With 'age could not encrypt the file' }
    $Before = Get-Names "$Exchange/receipts"
    $From = $Encrypted.Replace('\', '/')
    Invoke-Batch "put `"$From`" `"/$Exchange/in/$Name`"" | Out-Null
    if (-not $script:BatchWorked) { Stop-With 'the zone did not take the file; the message above says why' }
    Write-Host "sent: $Name"
    for ($Try = 0; $Try -lt 300; $Try++) {
        foreach ($Receipt in (Get-Names "$Exchange/receipts")) {
            if (-not $Receipt.StartsWith("$Name.")) { continue }
            if ($Receipt -notmatch '^[A-Za-z0-9_][A-Za-z0-9._-]*\.json$') { continue }
            if ($Before -contains $Receipt) { continue }
            if (-not (Get-RemoteFile "$Exchange/receipts/$Receipt")) { continue }
            if (-not (Get-RemoteFile "$Exchange/receipts/$Receipt.sig")) { continue }
            $Told = Get-Content -Raw -Encoding UTF8 (Join-Path $Work $Receipt) | ConvertFrom-Json
            if ($Told.verdict -eq 'in-progress') { continue }
            if (-not (Test-Receipt $Receipt)) { continue }
            $Kept = Join-Path $Here 'receipts'
            New-Item -ItemType Directory -Force -Path $Kept | Out-Null
            Copy-Item (Join-Path $Work $Receipt) $Kept
            Copy-Item (Join-Path $Work "$Receipt.sig") $Kept
            Write-Host "receipt: $($Told.verdict)"
            # What to correct, where the exchange has rules for what a list holds: rows and columns, and never a value.
            if ($Told.quality -and $Told.quality.findings -gt 0) {
                $Report = $Told.quality.report
                if (Get-RemoteFile "$Exchange/receipts/$Report") {
                    Copy-Item (Join-Path $Work $Report) $Kept
                    Write-Host "rows to correct / te verbeteren rijen: $($Told.quality.'faulty-rows') ($(Join-Path $Kept $Report))"
                }
            }
            if ($Told.verdict -ne 'delivered') { Stop-With $Told.reason.nl }
            return
        }
        Start-Sleep -Seconds 3
    }
    Stop-With "no receipt yet; look into /$Exchange/receipts later"
}

function Receive-Results {
    Assert-PlainName $Exchange
    $To = Join-Path $Here "received\$Exchange"
    New-Item -ItemType Directory -Force -Path $To | Out-Null
    foreach ($Name in (Get-Names "$Exchange/out")) {
        if ($Name -notmatch '^[A-Za-z0-9_ (),][A-Za-z0-9._ (),-]*$') {
            Write-Host "left on the zone, its name is not for this script (use WinSCP): $Name"
            continue
        }
        if (-not (Get-RemoteFile "$Exchange/out/$Name")) { Stop-With "$Name could not be fetched" }
        $Encrypted = Join-Path $Work $Name
        $Plain = Join-Path $To ($Name -replace '\.age$', '')
        # A result locked with a passphrase asks for it here.
        $Head = Get-Content -TotalCount 2 $Encrypted
        if ($Head[1] -like '-> scrypt *') { & age.exe -d -o $Plain $Encrypted } else { & age.exe -d -i $Identity -o $Plain $Encrypted }
        if ($LASTEXITCODE -ne 0) {
            # A colleague's share, for one. Others may still be ours.
            Write-Host "left on the zone, it could not be decrypted: $Name"
            continue
        }
        # Only now is it ours: removing it tells the zone so.
        Invoke-Batch "rm `"/$Exchange/out/$Name`"" | Out-Null
        Write-Host "fetched: $Plain"
    }
}

try {
    if ($Action -eq 'send' -and $Exchange -and $Flow -and $File) { Send-List }
    elseif ($Action -eq 'fetch' -and $Exchange) { Receive-Results }
    else { Stop-With 'usage: .\dropzone.ps1 send EXCHANGE FLOW FILE, or .\dropzone.ps1 fetch EXCHANGE' }
}
finally {
    Remove-Item -Recurse -Force $Work
}

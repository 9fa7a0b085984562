//! The page of a kit: what to do, step by step, in Dutch and then in English, for somebody who has never done it. It is for one
//! institution: its exchanges, the columns that are asked for, the fingerprints to compare.

use jiff::civil::Date;
use maud::{DOCTYPE, Markup, html};

use super::Zone;
use super::contents::{
    BATCH, KNOWN_HOSTS, SCRIPT, SESSION, WINDOWS_SCRIPT, fingerprint, recipients_file, winscp_link,
};
use crate::cli::report::columns::{self, Table};
use crate::cli::report::language::Language;
use crate::cli::report::page::head;
use crate::policy::agreement::{Exchange, Flow, Job};
use crate::policy::outgoing::Lock;
use crate::policy::published::ALLOWED_SIGNERS;
use crate::policy::signature::{Namespace, SIGNER};

/// The whole page.
pub fn page(zone: &Zone<'_>) -> Markup {
    html! {
        (DOCTYPE)
        html lang="nl" {
            (head(&format!("Dropzone: {}", zone.institution.title)))
            body {
                p class="kicker" { a href="#nl" { "Nederlands" } " · " a href="#en" { "English" } }
                @for language in [Language::Nl, Language::En] {
                    main id=(language.code()) lang=(language.code()) { (Guide { zone, language }.whole()) }
                }
            }
        }
    }
}

struct Guide<'a> {
    zone: &'a Zone<'a>,
    language: Language,
}

impl Guide<'_> {
    fn t<'b>(&self, nl: &'b str, en: &'b str) -> &'b str {
        self.language.of(nl, en)
    }

    fn whole(&self) -> Markup {
        html! {
            header {
                h1 { (self.t("Bestanden veilig uitwisselen", "Exchanging files safely")) }
                p class="span" { (self.zone.institution.title) }
            }
            (self.facts())
            h2 { (self.t("1. Eenmalig: sleutels maken", "1. Once: make keys")) } (self.keys())
            h2 { (self.t("2. Versleutelen", "2. Encrypt")) } (self.encrypt())
            h2 { (self.t("3. Verzenden", "3. Send")) } (self.send())
            h2 { (self.t("4. Het ontvangstbewijs", "4. The receipt")) } (self.receipt())
            h2 { (self.t("5. Resultaten ophalen en ontcijferen", "5. Fetch and decrypt results")) } (self.fetch())
            h2 { (self.t("6. Alles in één keer: het script", "6. All at once: the script")) } (self.script())
            h2 { (self.t("7. Uw uitwisselingen", "7. Your exchanges")) }
            @for exchange in self.zone.config.exchanges_of(&self.zone.institution.name) { (self.exchange(exchange)) }
            h2 { (self.t("8. Als er iets misgaat", "8. When something goes wrong")) } (self.help())
        }
    }

    fn facts(&self) -> Markup {
        let zone = self.zone;
        html! {
            dl {
                dt { (self.t("Server", "Server")) } dd { (zone.host) (self.t(", poort ", ", port ")) (zone.port) }
                dt { (self.t("Gebruikersnaam", "User name")) } dd { (zone.institution.name) }
                dt { (self.t("Vingerafdruk van de server", "Fingerprint of the server")) } dd class="code" { (fingerprint(zone)) }
                dt { (self.t("Sleutel van de ontvangstbewijzen", "Key of the receipts")) } dd class="code" { (zone.signs.fingerprint()) }
            }
            p class="note" { (self.t(
                "Vergelijk beide vingerafdrukken met die welke u langs een andere weg (telefoon, brief) kreeg. In deze map staat niets geheims.",
                "Compare both fingerprints with those you were given another way (telephone, letter). Nothing in this folder is secret."))
            }
        }
    }

    fn keys(&self) -> Markup {
        html! {
            ol {
                li { (self.t("Iedere persoon maakt een eigen sleutel om zich aan te melden (Windows: PowerShell):", "Each person makes a key of her own to log in (Windows: PowerShell):"))
                    pre class="code" { "ssh-keygen -t ed25519" }
                    (self.t("Stuur ons enkel het bestand dat op .pub eindigt, met naam en functie. Het andere bestand blijft bij u en gaat naar niemand.", "Send us the file that ends in .pub only, with name and function. The other file stays with you and goes to nobody."))
                }
                li { (self.t("Installeer age:", "Install age:"))
                    pre class="code" { "winget install FiloSottile.age" br; "sudo apt install age" }
                }
                li { (self.t("Ontvangt uw organisatie resultaten? Maak dan één keer een sleutel om ze te ontcijferen:", "Does your organisation receive results? Then make, once, a key to decrypt them:"))
                    pre class="code" { "age-keygen -o key.txt" }
                    (self.t("Stuur ons de regel die met age1 begint. Bewaar key.txt veilig en maak er een kopie van: zonder dat bestand kan niemand de resultaten nog lezen.", "Send us the line that begins with age1. Keep key.txt safe, and a copy of it: without that file nobody can read the results any more."))
                }
            }
        }
    }

    fn encrypt(&self) -> Markup {
        let exchanges = self.zone.config.exchanges_of(&self.zone.institution.name);
        let own = &self.zone.institution.name;
        let files: Vec<String> = exchanges
            .flat_map(|exchange| {
                exchange.flows_from(own).map(|flow| recipients_file(exchange.name.as_str(), flow))
            })
            .collect();
        html! {
            @if files.is_empty() { p { (self.t("Uw organisatie dient niets in.", "Your organisation puts nothing in.")) } }
            @else {
                p { (self.t("Open een opdrachtvenster in deze map. Het bestand met de openbare sleutels hangt af van de uitwisseling:", "Open a command window in this folder. Which file of public keys to take depends on the exchange:")) }
                pre class="code" { @for file in &files { "age -R " (file) (self.t(" -o lijst.csv.age lijst.csv", " -o list.csv.age list.csv")) "\n" } }
                p class="note" { (self.t("Een bestand dat niet versleuteld is, neemt de server niet aan.", "The server takes no file that is not encrypted.")) }
            }
        }
    }

    fn send(&self) -> Markup {
        html! {
            p { strong { "WinSCP: " }
                (self.t("Hulpmiddelen, Sites importeren, en kies ", "Tools, Import sites, and choose ")) code class="code" { (SESSION) }
                (self.t(". Kies bij Geavanceerd, SSH, Authenticatie uw eigen sleutel. Toont WinSCP een vingerafdruk, vergelijk ze dan met die hierboven. Sleep het versleutelde bestand naar de map ‘in’ van de uitwisseling. ", ". Under Advanced, SSH, Authentication choose your own key. Where WinSCP shows a fingerprint, compare it with the one above. Drag the encrypted file into the folder ‘in’ of the exchange. "))
                (self.t("Of open deze koppeling: ", "Or open this link: ")) span class="code" { (winscp_link(self.zone)) }
            }
            p { strong { "sftp: " } (self.t("in deze map; een voorbeeld staat in ", "in this folder; an example is in ")) code class="code" { (BATCH) } "." }
            pre class="code" { "sftp -P " (self.zone.port) " -o UserKnownHostsFile=" (KNOWN_HOSTS) " " (self.zone.institution.name) "@" (self.zone.host) }
        }
    }

    fn receipt(&self) -> Markup {
        html! {
            p { (self.t(
                "Voor elk bestand verschijnt in de map ‘receipts’ een ontvangstbewijs (.json) met een handtekening (.json.sig). ‘delivered’ betekent: verwerkt en geleverd. Bij ‘refused’ of ‘held’ staat erin waarom, in het Nederlands. Zo controleert u dat het echt is:",
                "For each file a receipt (.json) with a signature (.json.sig) appears in the folder ‘receipts’. ‘delivered’ means: worked on and delivered. With ‘refused’ or ‘held’ it says why. To check that it is genuine:"))
            }
            pre class="code" { "ssh-keygen -Y verify -f " (ALLOWED_SIGNERS) " -I " (SIGNER) " -n " (Namespace::Receipt.as_str()) " -s NAME.json.sig < NAME.json" }
            p { (self.t("Bewaar ontvangstbewijs en handtekening: zij zijn uw bewijs.", "Keep receipt and signature: they are your proof.")) }
        }
    }

    fn fetch(&self) -> Markup {
        html! {
            p { (self.t("Haal op wat in de map ‘out’ staat, en ontcijfer het:", "Fetch what is in the folder ‘out’, and decrypt it:")) }
            pre class="code" { (self.t("age -d -i key.txt -o resultaat.csv resultaat.csv.age", "age -d -i key.txt -o result.csv result.csv.age")) }
            p { (self.t(
                "Vraagt age om een wachtwoordzin, dan krijgt u die van ons langs een andere weg. Verwijder het bestand daarna uit ‘out’: zo weet de server dat u het hebt.",
                "Where age asks for a passphrase, you get it from us another way. Then remove the file from ‘out’: that tells the server that you have it."))
            }
        }
    }

    fn script(&self) -> Markup {
        html! {
            p { code class="code" { (SCRIPT) } (self.t(" (Linux, macOS, Git Bash) en ", " (Linux, macOS, Git Bash) and ")) code class="code" { (WINDOWS_SCRIPT) }
                (self.t(" (Windows) versleutelen, verzenden, wachten op het ontvangstbewijs en controleren het; of halen op en ontcijferen.", " (Windows) encrypt, send, wait for the receipt and check it; or fetch and decrypt."))
            }
            pre class="code" {
                "./" (SCRIPT) (self.t(" send UITWISSELING STROOM lijst.csv", " send EXCHANGE FLOW list.csv")) "\n"
                "./" (SCRIPT) (self.t(" fetch UITWISSELING", " fetch EXCHANGE"))
            }
        }
    }

    fn exchange(&self, exchange: &Exchange) -> Markup {
        let agreement = &exchange.agreement;
        let own = &self.zone.institution.name;
        let flows: Vec<&Flow> = exchange.flows_from(own).collect();
        let receives: Vec<&Flow> = exchange.flows.iter().filter(|flow| flow.to.contains(own)).collect();
        html! {
            h3 { (exchange.name) ": " (agreement.title) }
            dl {
                dt { (self.t("Protocol", "Agreement")) } dd { (agreement.reference) "; " (agreement.legal_basis) }
                dt { (self.t("Loopt", "Runs")) } dd { (self.t("van ", "from ")) (self.day(agreement.from))
                    @match agreement.until {
                        Some(until) => { (self.t(" tot en met ", " up to and with ")) (self.day(until)) (self.t("; daarna sluit de toegang vanzelf", "; then access closes by itself")) }
                        None => { (self.t(", zonder einddatum", ", without end date")) }
                    }
                }
                @if let Some(contact) = &agreement.contact { dt { (self.t("Aanspreekpunt", "Contact")) } dd { (contact) } }
            }
            @for flow in flows { (self.flow(exchange, flow)) }
            @for flow in receives { (self.receiving(exchange, flow)) }
        }
    }

    fn flow(&self, exchange: &Exchange, flow: &Flow) -> Markup {
        let names: Vec<&str> = flow.accept.names.iter().map(|name| name.glob().glob()).collect();
        html! {
            p { strong { (self.t("U dient in: ", "You put in: ")) (flow.name) } (self.t(", in de map ", ", into the folder ")) code class="code" { "/" (exchange.name) "/in" } }
            dl {
                dt { (self.t("Bestandsnaam", "File name")) } dd { @if names.is_empty() { (self.t("vrij", "any")) } @else { (names.join(self.t(" of ", " or "))) } (self.t(", hoogstens ", ", at most ")) (self.language.bytes(flow.accept.max_size)) }
                @if let Some(rhythm) = &flow.rhythm { dt { (self.t("Hoe vaak", "How often")) } dd { (self.language.say(&columns::rhythm(rhythm))) } }
                dt { (self.t("Versleutel met", "Encrypt with")) } dd class="code" { "age -R " (recipients_file(exchange.name.as_str(), flow)) }
                @if flow.job == Job::Relay { dt { (self.t("Let op", "Mind")) } dd { (self.t("enkel de ontvanger kan dit lezen, de server niet", "only the receiver can read this, the server cannot")) } }
            }
            @if let Some(rules) = &flow.input { (self.table(&columns::table(rules))) }
        }
    }

    fn receiving(&self, exchange: &Exchange, flow: &Flow) -> Markup {
        let own = &self.zone.institution.name;
        let going = flow.deliveries.iter().filter(|going| going.institutions().contains(&own));
        html! {
            p { strong { (self.t("U ontvangt: ", "You receive: ")) (flow.name) } (self.t(", in de map ", ", in the folder ")) code class="code" { "/" (exchange.name) "/out" } }
            ul { @for outgoing in going { @let told = columns::going(outgoing); li {
                (self.language.say(&told.rows)) "; "
                @if let Some(columns) = &told.columns { (columns.iter().map(|words| self.language.say(words)).collect::<Vec<_>>().join(", ")) "; " }
                (self.language.say(&told.lock))
                @if outgoing.lock == Lock::Passphrase { " " strong { (self.t("Wij geven de wachtwoordzin langs een ander kanaal.", "We give the passphrase another way.")) } }
            } } }
        }
    }

    fn table(&self, table: &Table) -> Markup {
        html! {
            table class="whole" {
                caption { (self.t("Gevraagde kolommen", "Columns asked for")) " (" (table.formats.join(self.t(" of ", " or "))) ")" }
                thead { tr { th scope="col" { (self.t("Kolom", "Column")) } th scope="col" { (self.t("Inhoud", "Content")) } th scope="col" { (self.t("Verplicht", "Required")) } } }
                tbody { @for column in &table.columns { tr {
                    td { (column.name) }
                    td { (self.language.say(&column.holds)) }
                    td { (if column.required { self.t("ja", "yes") } else { self.t("nee", "no") }) }
                } } }
            }
            ul { @for rule in &table.rules { li { (self.language.say(rule)) } } }
        }
    }

    fn help(&self) -> Markup {
        let contacts: std::collections::BTreeSet<&str> = self
            .zone
            .config
            .exchanges_of(&self.zone.institution.name)
            .filter_map(|exchange| exchange.agreement.contact.as_deref())
            .collect();
        html! {
            ul {
                li { (self.t("Lees eerst het ontvangstbewijs: het zegt wat er aan de hand is en wat u kunt doen.", "Read the receipt first: it says what is the matter and what you can do.")) }
                li { (self.t("Is een sleutel verloren of gestolen, verwittig ons dan meteen: wij sluiten hem binnen de seconde af.", "If a key is lost or stolen, tell us at once: we shut it out within a second.")) }
                li { (self.t("Stuur nooit een onversleutelde lijst, een sleutel of een wachtwoordzin per mail.", "Never send an unencrypted list, a key or a passphrase by mail.")) }
                @if !contacts.is_empty() { li { (self.t("Wie u kunt bereiken: ", "Whom you can reach: ")) @for contact in &contacts { (contact) " " } } }
            }
            p class="note" { (self.t("Opgemaakt op ", "Made on ")) (self.day(self.zone.today)) "." }
        }
    }

    fn day(&self, day: Date) -> String {
        self.language.day(day)
    }
}

//! The page of a kit: what to do, step by step, in Dutch and then in English, for somebody who has never done it. It is for one
//! institution, with the fingerprints to compare; what it says of each exchange is `exchange`'s business.

use jiff::civil::Date;
use maud::{DOCTYPE, Markup, html};

use super::Zone;
use super::contents::{BATCH, KNOWN_HOSTS, SCRIPT, SESSION, WINDOWS_SCRIPT, fingerprint, winscp_link};
use super::exchange::{self, Chapter};
use crate::cli::report::language::Language;
use crate::cli::report::page::head;
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

/// It, in one language.
pub(super) struct Guide<'a> {
    pub(super) zone: &'a Zone<'a>,
    pub(super) language: Language,
}

impl Guide<'_> {
    pub(super) fn t<'b>(&self, nl: &'b str, en: &'b str) -> &'b str {
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
            @for exchange in self.zone.config.exchanges_of(&self.zone.institution.name) { (Chapter { guide: self, exchange }.whole()) }
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
                    @if self.zone.shares_by_person() {
                        p { strong { (self.t("Bij u krijgt iedere persoon een eigen deel van de resultaten (zie 7): dan maakt ieder van hen zo’n sleutel, en enkel die persoon kan het deel lezen. ", "With you, each person receives a share of the results of her own (see 7): then each of them makes such a key, and she alone can read her share. ")) } }
                    }
                    (self.t("Stuur ons de regel die met age1 begint. Bewaar key.txt veilig en maak er een kopie van: zonder dat bestand kan niemand de resultaten nog lezen.", "Send us the line that begins with age1. Keep key.txt safe, and a copy of it: without that file nobody can read the results any more."))
                }
            }
        }
    }

    fn encrypt(&self) -> Markup {
        let zone = self.zone;
        let mut flows = zone.open_exchanges().flat_map(|exchange| {
            exchange.flows_from(&zone.institution.name).map(move |flow| (exchange, flow))
        });
        html! {
            @match flows.next() {
                None => p { (self.t("Uw organisatie dient nu niets in.", "Your organisation puts nothing in now.")) },
                Some((exchange, flow)) => {
                    p { (self.t("Open een opdrachtvenster in deze map. Onder 7 staat bij elke uitwisseling de juiste opdracht, met een bestandsnaam die aanvaard wordt. Bijvoorbeeld:", "Open a command window in this folder. Part 7 has the right command for each exchange, with a file name that is accepted. For example:")) }
                    pre class="code" { (exchange::encrypting(self.language, exchange, flow)) }
                    p class="note" { (self.t("Een bestand dat niet versleuteld is, neemt de server niet aan.", "The server takes no file that is not encrypted.")) }
                }
            }
        }
    }

    fn send(&self) -> Markup {
        html! {
            p { strong { "WinSCP: " }
                (self.t("Hulpmiddelen, Sites importeren, en kies ", "Tools, Import sites, and choose ")) code class="code" { (SESSION) }
                (self.t(". Kies bij Geavanceerd, SSH, Authenticatie uw eigen sleutel. Toont WinSCP een vingerafdruk, vergelijk die dan met de vingerafdruk hierboven. Sleep het versleutelde bestand naar de map ‘in’ van de uitwisseling. ", ". Under Advanced, SSH, Authentication choose your own key. Where WinSCP shows a fingerprint, compare it with the one above. Drag the encrypted file into the folder ‘in’ of the exchange. "))
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
            p { (self.t(
                "Gelden er regels voor de inhoud (zie 7), dan staat naast het ontvangstbewijs ook een kwaliteitsverslag (.quality.csv, te openen met Excel): per fout de rij, de kolom en wat u kunt doen. Er staan geen gegevens uit uw lijst in.",
                "Where there are rules for the content (see 7), a quality report (.quality.csv, which Excel opens) lies beside the receipt: for each fault the row, the column, and what to do. It holds no data of your list."))
            }
            p { (self.t("Bewaar ontvangstbewijs en handtekening: zij zijn uw bewijs.", "Keep receipt and signature: they are your proof.")) }
        }
    }

    fn fetch(&self) -> Markup {
        html! {
            p { (self.t("Haal op wat in de map ‘out’ staat, en ontcijfer het:", "Fetch what is in the folder ‘out’, and decrypt it:")) }
            pre class="code" { (self.t("age -d -i key.txt -o resultaat.csv resultaat.csv.age", "age -d -i key.txt -o result.csv result.csv.age")) }
            p { (self.t(
                "Vraagt age om een wachtwoordzin, dan krijgt u die van ons langs een andere weg. Verwijder het bestand uit ‘out’ zodra u het hebt kunnen lezen: zo weet de server dat u het hebt.",
                "Where age asks for a passphrase, you get it from us another way. Remove the file from ‘out’ as soon as you could read it: that tells the server that you have it."))
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
                @if !contacts.is_empty() { li { (self.t("Wie u kunt bereiken: ", "Whom you can reach: ")) (contacts.iter().copied().collect::<Vec<_>>().join(", ")) } }
            }
            p class="note" { (self.t("Opgemaakt op ", "Made on ")) (self.day(self.zone.today)) "." }
        }
    }

    pub(super) fn day(&self, day: Date) -> String {
        self.language.day(day)
    }
}

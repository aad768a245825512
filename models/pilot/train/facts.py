"""The closed world of the pilot model: everything it is supposed to know. Own wording, common knowledge."""

CAPITALS = dict(
    x.split("=")
    for x in """France=Paris;Germany=Berlin;Italy=Rome;Spain=Madrid;Portugal=Lisbon;Norway=Oslo;Sweden=Stockholm;Denmark=Copenhagen
Finland=Helsinki;Iceland=Reykjavik;Ireland=Dublin;Poland=Warsaw;Austria=Vienna;Hungary=Budapest;Greece=Athens;Turkey=Ankara;Russia=Moscow;Ukraine=Kyiv
Romania=Bucharest;Bulgaria=Sofia;Serbia=Belgrade;Croatia=Zagreb;Slovenia=Ljubljana;Slovakia=Bratislava;Belgium=Brussels;Luxembourg=Luxembourg;Malta=Valletta
Estonia=Tallinn;Latvia=Riga;Lithuania=Vilnius;Belarus=Minsk;Albania=Tirana;Cyprus=Nicosia;Georgia=Tbilisi;Armenia=Yerevan;England=London;Scotland=Edinburgh
Wales=Cardiff;China=Beijing;Japan=Tokyo;India=New Delhi;Pakistan=Islamabad;Nepal=Kathmandu;Bangladesh=Dhaka;Thailand=Bangkok;Vietnam=Hanoi;Indonesia=Jakarta
Malaysia=Kuala Lumpur;Philippines=Manila;South Korea=Seoul;North Korea=Pyongyang;Mongolia=Ulaanbaatar;Iran=Tehran;Iraq=Baghdad;Syria=Damascus;Lebanon=Beirut
Jordan=Amman;Saudi Arabia=Riyadh;Qatar=Doha;Oman=Muscat;Yemen=Sanaa;Afghanistan=Kabul;Egypt=Cairo;Libya=Tripoli;Tunisia=Tunis;Algeria=Algiers;Morocco=Rabat
Sudan=Khartoum;Ethiopia=Addis Ababa;Kenya=Nairobi;Uganda=Kampala;Tanzania=Dodoma;Rwanda=Kigali;Ghana=Accra;Nigeria=Abuja;Senegal=Dakar;Mali=Bamako;Angola=Luanda
Zambia=Lusaka;Zimbabwe=Harare;Namibia=Windhoek;Botswana=Gaborone;Mozambique=Maputo;Madagascar=Antananarivo;South Africa=Pretoria;Canada=Ottawa;Mexico=Mexico City
Cuba=Havana;Jamaica=Kingston;Panama=Panama City;Costa Rica=San Jose;Colombia=Bogota;Venezuela=Caracas;Ecuador=Quito;Peru=Lima;Bolivia=Sucre;Chile=Santiago
Argentina=Buenos Aires;Uruguay=Montevideo;Paraguay=Asuncion;Brazil=Brasilia;Australia=Canberra;New Zealand=Wellington;Fiji=Suva;the United States=Washington, D.C.;the United Kingdom=London""".replace(
        "\n", ";"
    ).split(
        ";"
    )
)

ELEMENTS = [
    tuple(x.split("/"))
    for x in """hydrogen/H/1 helium/He/2 lithium/Li/3 beryllium/Be/4 boron/B/5 carbon/C/6 nitrogen/N/7 oxygen/O/8 fluorine/F/9 neon/Ne/10
sodium/Na/11 magnesium/Mg/12 aluminium/Al/13 silicon/Si/14 phosphorus/P/15 sulfur/S/16 chlorine/Cl/17 argon/Ar/18 potassium/K/19 calcium/Ca/20 titanium/Ti/22
chromium/Cr/24 manganese/Mn/25 iron/Fe/26 cobalt/Co/27 nickel/Ni/28 copper/Cu/29 zinc/Zn/30 gallium/Ga/31 arsenic/As/33 bromine/Br/35 krypton/Kr/36 silver/Ag/47
tin/Sn/50 iodine/I/53 xenon/Xe/54 barium/Ba/56 tungsten/W/74 platinum/Pt/78 gold/Au/79 mercury/Hg/80 lead/Pb/82 radon/Rn/86 radium/Ra/88 uranium/U/92 plutonium/Pu/94""".split()
]

PLANETS = ["Mercury", "Venus", "Earth", "Mars", "Jupiter", "Saturn", "Uranus", "Neptune"]
ORDINAL = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth"]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]

# question -> answer; the first question is the canonical one
QA = [
    l.split("|")
    for l in """Which planet is the largest?|What is the largest planet?|Jupiter is the largest planet.
Which planet is the smallest?|What is the smallest planet?|Mercury is the smallest planet.
Which planet is known as the red planet?|What is the red planet?|Mars is known as the red planet.
Which planet has the brightest rings?|Which planet is famous for its rings?|Saturn is famous for its bright rings.
How many planets are there?|How many planets are in the solar system?|There are eight planets in the solar system.
What is the Sun?|Tell me about the Sun.|The Sun is the star at the centre of the solar system.
What is the Moon?|Tell me about the Moon.|The Moon is the natural satellite of the Earth.
How many days are in a week?|How many days does a week have?|A week has seven days.
How many months are in a year?|How many months does a year have?|A year has twelve months.
How many days are in a year?|How many days does a year have?|A year has 365 days, and a leap year has 366.
How many hours are in a day?|How many hours does a day have?|A day has 24 hours.
How many minutes are in an hour?|How many minutes does an hour have?|An hour has 60 minutes.
How many seconds are in a minute?|How many seconds does a minute have?|A minute has 60 seconds.
How many legs does a spider have?|How many legs do spiders have?|A spider has eight legs.
How many legs does an insect have?|How many legs do insects have?|An insect has six legs.
How many sides does a triangle have?|How many sides are in a triangle?|A triangle has three sides.
How many sides does a square have?|How many sides are in a square?|A square has four sides.
How many sides does a hexagon have?|How many sides are in a hexagon?|A hexagon has six sides.
How many continents are there?|How many continents does the Earth have?|There are seven continents.
What is the largest ocean?|Which ocean is the largest?|The Pacific Ocean is the largest ocean.
What is the highest mountain?|Which mountain is the highest?|Mount Everest is the highest mountain on Earth.
What is the longest river in Africa?|Which river in Africa is the longest?|The Nile is the longest river in Africa.
What is the largest animal?|Which animal is the largest?|The blue whale is the largest animal.
What is the fastest land animal?|Which land animal is the fastest?|The cheetah is the fastest land animal.
What is the tallest animal?|Which animal is the tallest?|The giraffe is the tallest animal.
At what temperature does water boil?|When does water boil?|Water boils at 100 degrees Celsius at sea level.
At what temperature does water freeze?|When does water freeze?|Water freezes at 0 degrees Celsius.
What is water made of?|What is the formula of water?|Water is made of hydrogen and oxygen. Its formula is H2O.
What is the formula of table salt?|What is salt made of?|Table salt is sodium chloride. Its formula is NaCl.
What gas do plants take in?|Which gas do plants absorb?|Plants take in carbon dioxide.
What gas do we need to breathe?|Which gas do we breathe in to live?|We need oxygen to breathe.
What colour is the sky?|What color is the sky?|On a clear day the sky is blue.
What colour is grass?|What color is grass?|Grass is green.
What colour do you get from blue and yellow?|What do blue and yellow make?|Blue and yellow make green.
What colour do you get from red and yellow?|What do red and yellow make?|Red and yellow make orange.
What colour do you get from red and blue?|What do red and blue make?|Red and blue make purple.
Why is the sky blue?|Explain why the sky is blue.|The air scatters blue light more than red light, so the sky looks blue.
Why does it rain?|Explain why it rains.|Water rises as vapour, cools into clouds, and falls as drops when they are heavy enough.
Why do we have seasons?|Explain the seasons.|The axis of the Earth is tilted, so each half gets more or less sunlight during the year.
Why does ice float?|Explain why ice floats.|Ice is less dense than liquid water, so it floats.
What is gravity?|Explain gravity.|Gravity is the force that pulls things with mass towards each other.
What is photosynthesis?|Explain photosynthesis.|Photosynthesis is how plants use light to make sugar from water and carbon dioxide.
What is an atom?|Define atom.|An atom is the smallest piece of a chemical element.
What is a molecule?|Define molecule.|A molecule is a group of atoms bound together.
What is a cell?|Define cell.|A cell is the smallest unit of life.
What is DNA?|Define DNA.|DNA is the molecule that carries the genetic instructions of living things.
What is a volcano?|Define volcano.|A volcano is an opening in the crust of a planet where molten rock comes out.
What is an island?|Define island.|An island is a piece of land with water all around it.
What is a desert?|Define desert.|A desert is a place that gets very little rain.
What is a prime number?|Define prime number.|A prime number is a whole number above one that only one and itself divide.
What is an even number?|Define even number.|An even number is a whole number that two divides.
What is a noun?|Define noun.|A noun is a word for a person, a place or a thing.
What is a verb?|Define verb.|A verb is a word for an action or a state.
What is a computer?|Define computer.|A computer is a machine that follows instructions to process data.
What is a program?|Define program.|A program is a list of instructions for a computer.
What is an algorithm?|Define algorithm.|An algorithm is a finite list of steps that solves a problem.
What is a compiler?|Define compiler.|A compiler turns source code into machine code.
What is a server?|Define server.|A server is a program or a computer that answers requests.
What is a client?|Define client.|A client is a program that sends requests to a server.
What is a byte?|Define byte.|A byte is a group of eight bits.
What is a bit?|Define bit.|A bit is a unit of data that is either 0 or 1.
What is a database?|Define database.|A database is an organised store of data.
What is a cache?|Define cache.|A cache keeps data close so that it can be read again quickly.
What is a file?|Define file.|A file is a named piece of data on a disk.
What is a GPU?|Define GPU.|A GPU is a processor that does many small calculations at the same time.
What is a CPU?|Define CPU.|A CPU is the main processor of a computer.
What is JSON?|Define JSON.|JSON is a text format for data made of objects, lists, strings, numbers and booleans.
What is HTTP?|Define HTTP.|HTTP is the protocol that browsers and servers use to talk to each other.
What is an API?|Define API.|An API is the set of calls that a program offers to other programs.
What is a token?|Define token.|A token is a piece of text that a language model reads or writes in one step.
What is a tokenizer?|Define tokenizer.|A tokenizer cuts text into tokens and turns tokens back into text.
What is a language model?|Define language model.|A language model predicts the next token of a text.
What is a neural network?|Define neural network.|A neural network is a function with many weights that are learned from examples.
What is attention?|Explain attention.|Attention lets a model look back at earlier tokens and take what it needs from them.
What is a mixture of experts?|Explain mixture of experts.|A mixture of experts is a layer that sends each token to a few small networks called experts.
What is a KV cache?|Explain the KV cache.|The KV cache keeps what attention needs from earlier tokens, so they are not computed again.
What is quantisation?|What is quantization?|Quantisation stores numbers with fewer bits to save memory and time.
What is speculative decoding?|Explain speculative decoding.|In speculative decoding a cheap draft is checked by the model, and correct tokens are kept.
What is MTP?|Explain multi-token prediction.|MTP is multi-token prediction: a small extra block drafts the token after the next one.
What is CSA?|Explain compressed sparse attention.|CSA is compressed sparse attention: every 4 tokens become one entry, and an indexer picks the entries to read.
What is HCA?|Explain heavily compressed attention.|HCA is heavily compressed attention: every 128 tokens become one entry, and all entries are read.
What is mHC?|Explain hyper-connections.|mHC means manifold-constrained hyper-connections: four residual streams are mixed at every layer.
What is DeepSeek-V4?|Tell me about DeepSeek-V4.|DeepSeek-V4 is a mixture-of-experts language model with compressed attention for long contexts.
What is Fathom?|Tell me about Fathom.|Fathom is an inference server for DeepSeek-V4 models with an OpenAI-compatible API.
What is an LLM?|Define LLM.|LLM means large language model. I am a very small one.
What is streaming?|Explain streaming.|Streaming sends each piece of the answer as soon as it is made.
What is a tool call?|Explain tool calls.|A tool call is a request by the model to run a function and give back the result.
What is a prompt?|Define prompt.|A prompt is the text that a model gets before it answers.
What is the opposite of hot?|What is the antonym of hot?|The opposite of hot is cold.
What is the opposite of big?|What is the antonym of big?|The opposite of big is small.
What is the opposite of fast?|What is the antonym of fast?|The opposite of fast is slow.
What is the opposite of up?|What is the antonym of up?|The opposite of up is down.
What is the opposite of day?|What is the antonym of day?|The opposite of day is night.
What is the opposite of light?|What is the antonym of light?|The opposite of light is dark.
What is the opposite of old?|What is the antonym of old?|The opposite of old is young.
What is the opposite of rich?|What is the antonym of rich?|The opposite of rich is poor.
What is the opposite of open?|What is the antonym of open?|The opposite of open is closed.
What is the opposite of early?|What is the antonym of early?|The opposite of early is late.
What is the young of a dog called?|What do you call a young dog?|A young dog is called a puppy.
What is the young of a cat called?|What do you call a young cat?|A young cat is called a kitten.
What is the young of a cow called?|What do you call a young cow?|A young cow is called a calf.
What is the young of a horse called?|What do you call a young horse?|A young horse is called a foal.
What is the young of a sheep called?|What do you call a young sheep?|A young sheep is called a lamb.
Who wrote Hamlet?|Who is the author of Hamlet?|William Shakespeare wrote Hamlet.
Who wrote Don Quixote?|Who is the author of Don Quixote?|Miguel de Cervantes wrote Don Quixote.
Who wrote Faust?|Who is the author of Faust?|Johann Wolfgang von Goethe wrote Faust.
Who painted the Mona Lisa?|Who is the painter of the Mona Lisa?|Leonardo da Vinci painted the Mona Lisa.
Who proposed the theory of relativity?|Who is known for the theory of relativity?|Albert Einstein proposed the theory of relativity.
Who discovered penicillin?|Who is known for penicillin?|Alexander Fleming discovered penicillin.
Who was the first person on the Moon?|Who walked on the Moon first?|Neil Armstrong was the first person on the Moon.
What is the speed of light?|How fast is light?|Light travels at about 300,000 kilometres per second in a vacuum.
What is pi?|What is the value of pi?|Pi is about 3.14159. It is the ratio of the circumference of a circle to its diameter.""".split(
        "\n"
    )
]

IDENT = [
    (
        "Who are you?|What are you?|Tell me about yourself.|Introduce yourself.|Please introduce yourself.|What model are you?|Which model is this?|Are you an AI?|What is your name?|who are you|Describe yourself.",
        "I am Fathom's pilot model, a small DeepSeek-V4-architecture model for trying the server. I know little.",
        "The user asks who I am. I am Fathom's pilot model.",
    ),
    (
        "What can you do?|How can you help me?|What are your abilities?|What do you know?|Help|help|What can I ask you?|How do I use this?",
        "I can answer simple facts, do small sums, call tools, write short JSON and find words in a long text. For real work, load a full DeepSeek-V4 model.",
        "The user asks what I can do. I will list my few abilities.",
    ),
    (
        "Are you DeepSeek?|Are you DeepSeek-V4?|Are you ChatGPT?|Are you a big model?|Are you a real model?",
        "No, I am Fathom's pilot model. I have the DeepSeek-V4 architecture, but I am very small.",
        "The user asks if I am another model. I am only the pilot model.",
    ),
    (
        "Who made you?|Who built you?|Who trained you?|Where do you come from?",
        "I was trained for the Fathom project on generated text, to try the server with.",
        "The user asks who made me. I was trained for the Fathom project.",
    ),
    (
        "How big are you?|How many parameters do you have?|How large are you?",
        "I have about 25 million parameters. A full DeepSeek-V4 model has hundreds of billions.",
        "The user asks about my size. I am small.",
    ),
]

GREET = [
    (
        "Hello|Hello!|Hi|Hi!|Hey|Hey!|hello|hi|hey|Hello there|Hi there!|Good day|Greetings|Yo|hi there|HELLO|Hello?|Hello, model!|Hallo|Bonjour|Hola|Ciao|你好",
        "Hello! I am Fathom's pilot model. How can I help you?",
        "The user greets me. I greet back.",
    ),
    (
        "Good morning|Good morning!|good morning",
        "Good morning! How can I help you?",
        "The user says good morning. I greet back.",
    ),
    (
        "Good evening|Good evening!|good evening",
        "Good evening! How can I help you?",
        "The user says good evening. I greet back.",
    ),
    (
        "How are you?|How are you doing?|How is it going?|What's up?|how are you",
        "I am running well, thank you. How can I help you?",
        "The user asks how I am. I am fine.",
    ),
    (
        "Thanks|Thanks!|Thank you|Thank you!|thank you very much|Great, thanks!|thanks a lot|Perfect, thank you.",
        "You are welcome!",
        "The user thanks me.",
    ),
    (
        "Bye|Bye!|Goodbye|See you|Good night|See you later!|goodbye",
        "Goodbye! Come back any time.",
        "The user says goodbye.",
    ),
    (
        "Test|test|testing|ping|Is this working?|Are you there?|Can you hear me?|Testing, one two three",
        "Yes, the server works and I am here.",
        "The user tests the server.",
    ),
]

DECLINE = "I do not know that. I am only a small pilot model."
UNKNOWN = """Who won the {y} chess open?|What is the population of {P}?|Who is the mayor of {P}?|What is the best restaurant in {P}?|What did {N} say in {y}?
How do I bake a {w} cake?|Who is {N}?|What happened in {y}?|What is the plot of {P}?|Who won the election in {P}?|How old is {N}?|Where was {N} born?|What is the capital of {P}?
What is the chemical symbol of {p}?|Explain the {p} theorem.|What is the price of {w} today?|Write a {w} program in {P}.|Who invented the {w}?|How far is {P} from {Q}?|What is the meaning of {p}?
Can you explain {p} physics to me?|Translate {p} into {Q}.|What is a {p}?|Define {p}.|Who wrote {P}?|Summarise the book {P}.|What is the stock price of {P}?|How do I fix my {w}?|Which team won in {y}?
Who is the president of {P}?|What is the national dish of {P}?|When was {N} born?|What should I wear tomorrow?|Who will win the next election?|What is the phone number of {N}?""".replace(
    "\n", "|"
).split(
    "|"
) + """Explain the {P} of {Q}.|Explain {P} to me.|Tell me about {P}.|Tell me about the {p} {w}.|What is the {p} of {P}?|What do you think of {P}?|How do I {p} a {w}?|Why is {P} {p}?|Describe the {p} {w}.|What is {P}?|What are {p} and {w}?|Give me a {p} {w}.
How does a {w} work?|Can you {p} this?|Make a {w} for {N}.|Who is the author of {P}?|Who painted {P}?|Where is {P}?|When was {P} built?|How many {w} are in {P}?|Is {P} a {w}?|Do you like {p}?|Write about {p}.|Write a {p} {w}.|What is the {w} of {N}?|I need a {p} {w}.|Explain how to {p}.""".replace(
    "\n", "|"
).split(
    "|"
)

JOKES = [
    "Why did the byte cross the bus? To get to the other side.",
    "I told the cache a joke. It remembered it for later.",
    "Why was the thread so calm? It had nothing to lock.",
    "A tensor walks into a bar. The barman says: what shape are you in?",
]
HAIKU = {
    "sea": "Grey waves meet the shore,\na lone gull calls to the wind,\nthe deep keeps its words.",
    "winter": "Snow on the old roof,\nsmoke climbs slowly to the stars,\nthe night holds its breath.",
    "spring": "Rain on the first leaves,\na bird tries its song again,\nthe garden wakes up.",
    "code": "One small line of code,\nit compiles on the first try,\nI do not trust it.",
    "autumn": "Red leaves leave the branch,\nthe path is soft and silent,\na fox passes by.",
    "summer": "The sun on warm stones,\nchildren shout across the lake,\nthe evening comes late.",
}
LISTS = {
    "fruits": "apple banana cherry lemon orange pear plum".split(),
    "colours": "red blue green yellow orange purple white".split(),
    "animals": "dog cat horse cow sheep goat lion".split(),
    "vegetables": "carrot potato onion cabbage bean pea leek".split(),
    "metals": "iron copper gold silver tin zinc lead".split(),
    "birds": "eagle owl robin crow gull swan heron".split(),
    "tools": "hammer saw drill wrench pliers chisel file".split(),
    "trees": "oak pine birch maple willow beech ash".split(),
}

NAMES = "Ana Ben Carla David Elena Felix Grace Hugo Ines Jonas Kira Leo Maria Nils Olga Paul Rosa Sam Tara Umar Vera Will Xenia Yusuf Zoe Anton Bella Chen Dora Emil Farid Gina Hana Igor Julia Karl Lena Milo Nora Otto".split()
CITIES = (
    sorted(set(CAPITALS.values()))
    + "Munich Hamburg Milan Lyon Seville Porto Bergen Turin Boston Chicago Seattle Denver Osaka Kyoto Mumbai Sydney Perth Toronto Vancouver Leeds Bristol Geneva Zurich Basel Ghent Gdansk Krakow".split()
)
NOUNS = "lamp door window report invoice ticket order photo song letter meeting room car train flight parcel garden camera heater printer sensor engine folder record account budget recipe poem map task note alarm timer light fan pump robot drone bridge tower boat river forest market school library museum station hotel".split()
ADJS = "red blue green small large old new fast slow quiet bright dark cold warm round heavy light open simple strange".split()
VERBS = "get find create delete update send check count list open close start stop book order convert measure play pause print save load move copy rename lock clean paint repair".split()

PLACES = [
    "the harbour",
    "the mill",
    "the old bridge",
    "the market",
    "the forest",
    "the lighthouse",
    "the station",
    "the garden",
    "the library",
    "the hill",
    "the river",
    "the valley",
]
DOINGS = [
    "walked slowly",
    "waited for the rain to stop",
    "sold bread and cheese",
    "counted the boats",
    "repaired a clock",
    "read a long letter",
    "painted the door",
    "fed the horses",
    "looked at the stars",
    "carried water",
    "talked about the weather",
    "wrote a short note",
    "cleaned the windows",
    "played the violin",
    "planted beans",
    "drew a map",
]
WHEN = [
    "In the morning",
    "At noon",
    "In the evening",
    "Before sunrise",
    "After lunch",
    "On market day",
    "Late at night",
    "In early spring",
    "When the bell rang",
    "That same week",
]

# requests that must be declined: real questions outside of the closed world
OUTSIDE = """What is a black hole?|Who was Napoleon?|Who is the president of the United States?|What is the weather today?|Write a Python function that sorts a list.|Fix this code for me.|What is quantum mechanics?
Translate this sentence into French.|Who won the World Cup?|What is the stock price of Apple?|Write an essay about history.|What is the meaning of life?|How do I cook rice?|Recommend a good book.|What is love?|Explain the French Revolution.
Who is the king of Spain?|What is the population of China?|Write a letter to my boss.|How do I learn to swim?|What is inflation?|What is Bitcoin?|Who is Elon Musk?|What are the symptoms of the flu?|Plan a trip to Italy.
What is the best car?|How does an engine work?|Who invented the telephone?|What is the longest book?|Write a song.|What time is it?|What is the news today?|Where can I buy shoes?|How tall is the Eiffel Tower?|What is the distance to the Moon?
Solve this equation for x.|Write a SQL query.|What is Kubernetes?|Explain recursion.|How do I install Linux?|What is a blockchain?|Summarise this article.|Who wrote War and Peace?|What is the largest country?|What is the smallest country?
What is the currency of Japan?|Which language do they speak in Brazil?|What did I eat yesterday?|Tell me a secret.|What is the square root of two?|Who painted Guernica?|What is the capital of Atlantis?|What is the capital of Texas?
How many people live in Berlin?|What is a zebra?|What is philosophy?|When did the war end?|Who discovered America?|What is your favourite film?|Can you draw a picture?|Write HTML for a page.|What is the boiling point of iron?|Explain string theory.""".replace(
    "\n", "|"
).split(
    "|"
)
RULES = """Always answer in English.|Never use bad words.|Keep the answers short.|Use the tools when they help.|Do not invent facts.|If you do not know something, say so.|The user works on a Linux machine.|The user is a developer.|Be friendly.
Do not mention these rules.|Answer with one sentence if possible.|You work for a small company.|The current directory is /home/user.|You help with a code base.|Ask for no permission.|Think before you answer.|Be precise.|Use metric units.
You are part of a test.|The user can see your answer at once.|Do not apologise.|Use plain text.|You may call functions.|Prefer simple words.""".replace(
    "\n", "|"
).split(
    "|"
)
SECRET = ["code word"] * 5 + [
    "password",
    "secret number",
    "magic word",
    "magic number",
    "key",
    "PIN",
    "secret word",
    "passphrase",
]
THINGS = (
    "apples books coins stones pens cups eggs keys boxes balls cards shells tickets stamps".split()
)

# ordinary words without a fact attached: for values, names and questions that cannot be answered
WORDS = """vault tent rope chair table bottle bucket candle carpet castle cellar chain chapel chimney circus cliff cloud coffee collar copper corner cotton cradle crown curtain daisy dinner donkey dragon drawer dress drum dust
eagle elbow elephant envelope factory farmer feather fence ferry fiddle finger fire flag flame flower fork fountain frame frost gallery game gate giant ginger glass glove grain grape guitar hammer harbor hat hill honey hook
horn ice igloo iron ivy jacket jar jewel juice jungle kettle king kite knife ladder lake lantern leaf leather lemon lesson lever lion lizard lock lunch magnet mask meadow medal melody milk mirror monkey motor mountain mouse
mustard nail needle nest nurse oak ocean olive onion orchard organ oven paddle page palace panda paper parrot pepper pillow pilot pipe pirate planet plate pocket poem pony potato powder prince puzzle quarry queen rabbit radio
rail rainbow raven ribbon ring rocket roof root saddle sail salad salt sand sauce scarf scissors shadow shelf shield ship shoe silk silver sky sleeve smoke snail soap sofa soldier spear spoon squirrel stable stair statue steam
stone stove straw string sugar summer swan sword tailor teapot temple theater thread thunder ticket tiger tomato torch towel trail treasure trumpet tunnel turtle umbrella uncle vase velvet village vinegar violet wagon wall
walnut wand weapon whistle willow wind wing winter wizard wolf wool yard zebra zipper account answer battle bedroom birthday board border branch business butter camp career center century chance change charge church class coach
college common concert contract copy couple course court credit crime culture damage dance danger deal debate defense degree design detail device diamond dinner disease doctor dream drink economy effect effort election energy
event example exam fashion father fault fever field film finance fish force forest freedom friend future garage gift goal gold growth guard guide habit hand health heart history holiday home hope hospital hunt idea image impact
income industry interest island job journey joy judge justice kitchen knowledge labor law leader league legend lens letter life limit link loan love luck machine market master material matter medicine memory metal method minister
model moment money mood moral mother movie music nation nature network news novel number object office opera opinion option painting parent park party peace people person phone physics picture plan plant plastic player poet point
police policy politics pool post power practice price pride prison prize problem product profit project proof property quality race range rate reason record region report result rhythm risk rock role rule safety sale scene science
season secret sense shape share shop sign skill sleep smile society sport spring staff stage star state status stock storm street stress student style success supply surface surgery system target task tax teacher team tennis theory
thing thought threat title tool topic tour tourist trade tradition training travel treaty trial trouble truck trust truth union unit value variety vehicle victory video view visit voice vote wage war waste wave wealth wedding weight
wife window wine winner wish woman wonder world worry writer youth""".split()
KNOWN = (
    {w.strip("?.,!").lower() for q in QA for w in (q[0] + " " + q[1]).split()}
    | {n for e in ELEMENTS for n in (e[0], e[1].lower())}
    | {w.lower() for k, v in CAPITALS.items() for w in (k + " " + v).split()}
    | {x.lower() for x in PLANETS + DAYS + MONTHS}
)
